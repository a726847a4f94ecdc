"""`aerial-keygen`: the keys of the encrypted result link; and how the daemon reads them.

Files are ZeroMQ certificates, as CZMQ and pyzmq read them: NAME.key is public, NAME.key_secret holds both halves.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from aerial_runtime import BUILD, __version__
from aerial_runtime.config import Parser
from aerial_runtime.errors import InputError, ResourceError, UsageError, run_command
from aerial_runtime.log import warn
from aerial_runtime.say import say

PUBLIC, SECRET = ".key", ".key_secret"
SERVER, CLIENTS = "server", "clients"  # names within the folder of aerial-keygen


@dataclass(frozen=True)
class CurveServer:
    """The daemon's secret key and the public keys of those who may listen, 40 characters (Z85) each."""

    secret_key: bytes
    clients: frozenset[bytes]


def load_curve_server(server_key: Path, allowed_clients: Path | None) -> CurveServer:
    """Read what --server-key (server.key_secret) and --allowed-clients (a folder of NAME.key) name.

    Raises UsageError where nobody would be allowed, InputError where a file is missing or damaged.
    """
    if allowed_clients is None:
        raise UsageError("--server-key needs --allowed-clients, a folder with the public keys of those who may listen")
    own, secret = load_keys(server_key)
    if secret is None:
        raise InputError(f"{server_key} holds no secret key; give the daemon server{SECRET}")
    if server_key.stat().st_mode & 0o077:
        warn("key-open", f"others can read the secret key {server_key}; chmod 600 it")
    try:  # not by glob, which finds nothing in a folder that is closed to us
        paths = sorted(path for path in allowed_clients.iterdir() if path.suffix == PUBLIC)
    except OSError as error:
        raise InputError(
            f"--allowed-clients: cannot read the folder {allowed_clients} ({error.strerror}); check the path"
        ) from error
    # Not the server's own, which lies in the folder above: whoever names that one lets nobody in.
    clients = frozenset(load_keys(path)[0] for path in paths) - {own}
    if not clients:
        raise UsageError(
            f"--allowed-clients {allowed_clients} holds no NAME{PUBLIC} of a client, so nobody could listen; give the "
            f"folder {CLIENTS} of aerial-keygen, or make a key with aerial-keygen --client NAME"
        )
    return CurveServer(secret, clients)


def load_keys(path: Path) -> tuple[bytes, bytes | None]:
    """Return the public key of a file, and the secret one where it holds it. Raises InputError."""
    try:
        path.stat()  # pyzmq says of a file that is closed to us that there is none
        public, secret = load_certificate(path)
        for key in (public, secret):
            if key is not None and len(z85.decode(key)) != 32:
                raise ValueError("a key is 40 characters")
        if secret is not None and zmq.curve_public(secret) != public:
            raise ValueError("its two keys do not belong together")
    except OSError as error:
        raise InputError(f"cannot read the key {path} ({error.strerror}); check the path") from error
    except (ValueError, KeyError, struct.error) as error:  # the last of five characters that are more than 32 bits
        raise InputError(f"{path} is not a key of aerial-keygen ({error}); make it again") from error
    return public, secret


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run_command("aerial-keygen", lambda: keygen(_parser().parse_args(argv)))


def keygen(options: argparse.Namespace) -> int:
    """Make the keys that are not there yet; return 0. Raises UsageError or ResourceError."""
    folder: Path = options.folder
    for name in options.client:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name == SERVER:
            raise UsageError(f"--client {name!r} cannot name a file; use letters, digits, - and _, but not {SERVER!r}")
    try:
        for name in options.client:
            if (folder / f"{name}{SECRET}").exists() or (folder / CLIENTS / f"{name}{PUBLIC}").exists():
                raise UsageError(f"{folder} has keys of {name!r}; delete them first, or give another --client")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / CLIENTS).mkdir(exist_ok=True)
        if not (folder / f"{SERVER}{SECRET}").exists():
            _make_pair(folder / f"{SERVER}{PUBLIC}", folder / f"{SERVER}{SECRET}")
        for name in options.client:
            _make_pair(folder / CLIENTS / f"{name}{PUBLIC}", folder / f"{name}{SECRET}")
    except OSError as error:
        where = error.filename or folder
        raise ResourceError(f"cannot write {where} ({error.strerror}); give another folder") from error
    say(f"aircraft: aerial-runtime --server-key {folder / SERVER}{SECRET} --allowed-clients {folder / CLIENTS}")
    for name in options.client:
        say(f"{name}: aerial-listen --server-key {SERVER}{PUBLIC} --client-key {name}{SECRET}")
    return 0


def _make_pair(public_path: Path, secret_path: Path) -> None:
    public, secret = zmq.curve_keypair()
    lines = f'metadata\n    made-by = "aerial-keygen {__version__}"\ncurve\n    public-key = "{public.decode()}"\n'
    with ExitStack() as undo:  # half of a pair would pass for a whole one the next time
        _write_new(public_path, lines, 0o644, undo)
        own_lines = f'# SECRET: never leaves its owner\n{lines}    secret-key = "{secret.decode()}"\n'
        _write_new(secret_path, own_lines, 0o600, undo)
        undo.pop_all()


def _write_new(path: Path, text: str, mode: int, undo: ExitStack) -> None:
    """Write a file that is not there yet; from its first moment nobody has more rights than `mode`.

    undo: deletes it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    undo.callback(path.unlink)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


def _parser() -> Parser:
    parser = Parser(
        prog="aerial-keygen",
        description="Make keys for the encrypted result link: a pair for the aircraft, one for each client. "
        "The aircraft needs server.key_secret and the folder clients, a client server.key and its NAME.key_secret.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder for the keys; the aircraft's pair is made if it is not there")
    add("--client", action="append", default=[], metavar="NAME", help="make a pair for this client; repeatable")
    add("--version", action="version", version=f"%(prog)s {BUILD}")
    return parser
