"""`aerial-keygen`, and what the daemon makes of its files."""

from __future__ import annotations

import os
import resource
import stat

import pytest
import zmq

from aerial_runtime.errors import InputError, UsageError
from aerial_runtime.keys import load_curve_server, load_keys, main


@pytest.fixture
def folder(tmp_path):
    assert main([str(tmp_path / "keys"), "--client", "ground", "--client", "judge_2"]) == 0
    return tmp_path / "keys"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_and_who_can_read_it(folder):
    files = {str(path.relative_to(folder)): mode(path) for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "server.key": 0o644,
        "server.key_secret": 0o600,
        "ground.key_secret": 0o600,
        "judge_2.key_secret": 0o600,
        "clients/ground.key": 0o644,
        "clients/judge_2.key": 0o644,
    }
    assert mode(folder) == 0o700


def test_secrets_stay_secret_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        assert main([str(tmp_path / "keys"), "--client", "ground"]) == 0
    finally:
        os.umask(before)
    assert {mode(path) for path in (tmp_path / "keys").glob("*_secret")} == {0o600}


def test_public_files_hold_nothing_secret(folder):
    public, secret = load_keys(folder / "server.key_secret")
    assert zmq.curve_public(secret) == public
    assert load_keys(folder / "server.key") == (public, None)
    assert secret not in (folder / "server.key").read_bytes()


def test_a_new_client_leaves_the_other_keys_as_they_are(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.key*")}
    capsys.readouterr()
    assert main([str(folder), "--client", "late"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    out = capsys.readouterr().out
    assert f"aerial-runtime --server-key {folder}/server.key_secret --allowed-clients {folder}/clients" in out
    assert "late: aerial-listen --server-key server.key --client-key late.key_secret" in out
    assert len(load_curve_server(folder / "server.key_secret", folder / "clients").clients) == 3


@pytest.mark.parametrize("client", ["ground", "server", "../evil", "", "a b"])
def test_a_client_that_cannot_be_made_is_named_and_nothing_changes(folder, client, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.key*")}
    assert main([str(folder), "--client", "new", "--client", client]) == 2
    assert repr(client) in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.key*")} == before


@pytest.mark.parametrize("lost", ["clients/ground.key", "ground.key_secret"])
def test_half_of_a_pair_is_not_written_over(folder, lost):
    """A client that was struck from the list, say: its name does not come back with another key."""
    (folder / lost).unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*.key*")}
    assert main([str(folder), "--client", "ground"]) == 2
    assert {path: path.read_bytes() for path in folder.rglob("*.key*")} == before


def test_a_public_key_whose_secret_is_lost_is_not_written_over(folder, capsys):
    (folder / "server.key_secret").unlink()
    before = (folder / "server.key").read_bytes()
    assert main([str(folder)]) == 5
    assert "server.key (File exists)" in capsys.readouterr().err
    assert (folder / "server.key").read_bytes() == before and not (folder / "server.key_secret").exists()


def test_a_disk_that_is_full_leaves_no_half_of_a_pair(tmp_path, capsys):
    """The secret file is the longer one; half of it passed for the aircraft's the next time."""
    main([str(tmp_path / "long")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "long" / "server.key").stat().st_size, before[1]))
    try:
        assert main([str(tmp_path / "keys")]) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"cannot write {tmp_path}/keys (File too large)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["clients"]
    assert main([str(tmp_path / "keys")]) == 0
    assert load_keys(tmp_path / "keys" / "server.key_secret")[1] is not None


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(tmp_path / "file" / "keys")]) == 5
    assert f"cannot write {tmp_path}/file/keys" in capsys.readouterr().err
    long = tmp_path / ("a" * 300)  # the system does not even look at it, as at what lies in a folder closed to us
    assert main([str(long), "--client", "ground"]) == 5
    assert f"cannot write {long}" in capsys.readouterr().err


def test_the_daemon_reads_its_secret_and_the_allow_list(folder):
    curve = load_curve_server(folder / "server.key_secret", folder / "clients")
    assert zmq.curve_public(curve.secret_key) == load_keys(folder / "server.key")[0]
    assert curve.clients == {load_keys(folder / f"{name}.key_secret")[0] for name in ("ground", "judge_2")}


def test_the_folder_above_that_of_the_clients_is_refused(folder):
    """It holds server.key: taken for a client's, nobody would be let in, and nobody told before the flight."""
    with pytest.raises(UsageError, match="give the folder clients"):
        load_curve_server(folder / "server.key_secret", folder)


def test_a_secret_that_others_can_read_is_said(folder, caplog):
    (folder / "server.key_secret").chmod(0o640)
    load_curve_server(folder / "server.key_secret", folder / "clients")
    assert "others can read the secret key" in caplog.text


def test_keys_that_make_no_sense_are_named(folder):
    with pytest.raises(UsageError, match="--server-key needs --allowed-clients"):
        load_curve_server(folder / "server.key_secret", None)
    with pytest.raises(InputError, match=r"server\.key holds no secret key; give the daemon server\.key_secret"):
        load_curve_server(folder / "server.key", folder / "clients")
    with pytest.raises(InputError, match=r"cannot read the folder .*nobody \(No such file or directory\)"):
        load_curve_server(folder / "server.key_secret", folder / "nobody")
    (folder / "nobody").mkdir()
    with pytest.raises(UsageError, match=r"nobody holds no NAME\.key of a client, so nobody could listen"):
        load_curve_server(folder / "server.key_secret", folder / "nobody")
    with pytest.raises(InputError, match=r"cannot read the key .*missing \(No such file or directory\)"):
        load_keys(folder / "missing")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some text",
        'public-key = "short"',
        f'public-key = "{"~" * 40}"',
        f'public-key = "{"#" * 40}"',
        f'public-key = "{zmq.curve_keypair()[0].decode()}"\nsecret-key = "{zmq.curve_keypair()[1].decode()}"',
        b"\xff\xfe\x00",
    ],
)
def test_a_damaged_key_is_named(tmp_path, text):
    path = tmp_path / "bad.key"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"bad\.key is not a key of aerial-keygen"):
        load_keys(path)
