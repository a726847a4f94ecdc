"""Makes the models: synthetic scenes, networks, training, scoring."""
