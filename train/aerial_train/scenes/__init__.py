"""Labelled synthetic scenes: the truth of the whole project.

A sample is a pure function of (seed, epoch, index): the same on every machine and with any number of workers.
"""
