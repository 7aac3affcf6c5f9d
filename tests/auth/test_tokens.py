"""The tokens file: what it may hold, and how it is written."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vsmgate.auth.tokens import (
    Token,
    add_token,
    new_token,
    read_tokens,
    remove_token,
    write_private,
)
from vsmgate.errors import ConfigError
from vsmgate.model import Secret

DIGEST = "ab" * 32


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_tokens(path)
    return str(caught.value)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_tokens_are_256_random_bits() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {43}


def test_what_is_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    until = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    awkward = 'Zoë "the\\boss" \U0001f9e0'
    first = Token(DIGEST, awkward, (awkward, "b"), until, "tab\tdel\x7f")
    second = Token("cd" * 32, "bob")
    add_token(path, first)
    assert mode(path) == 0o600
    add_token(path, second)
    assert read_tokens(path) == {DIGEST: first, "cd" * 32: second}
    assert list(path.parent.iterdir()) == [path]


def test_adding_keeps_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.toml", "# of the lab\n[[token]] # one\n" + entry())
    path.chmod(0o640)
    before = path.read_text()
    add_token(path, Token("cd" * 32, "bob"))
    assert path.read_text().startswith(before)
    assert mode(path) == 0o640
    assert len(read_tokens(path)) == 2


def entry(digest: str = DIGEST) -> str:
    return f'sha256 = "{digest}"\nsubject = "ada"\n'


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to("real.toml")
    add_token(link, Token(DIGEST, "ada"))
    assert link.is_symlink()
    assert DIGEST in read_tokens(tmp_path / "real.toml")


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.toml", "")
    os.chown(path, 12345, 12345)
    add_token(path, Token(DIGEST, "ada"))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


def test_a_bad_file_is_not_added_to(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.toml", "[[token]]\n")
    with pytest.raises(ConfigError, match=r"token\[0\]\.sha256: is required"):
        add_token(path, Token(DIGEST, "ada"))
    assert path.read_text() == "[[token]]\n"


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    with pytest.raises(ConfigError, match="no such file or directory"):
        remove_token(path, "laptop")
    path.write_bytes(b"# M\xfcller's\n")
    for change in (lambda: add_token(path, Token(DIGEST, "ada")), lambda: remove_token(path, "x")):
        with pytest.raises(ConfigError, match="can't decode byte 0xfc"):
            change()
    assert path.read_bytes() == b"# M\xfcller's\n"


@pytest.mark.parametrize("subject", ["", "a\nb", "x" * 257])
def test_a_bad_entry_is_not_written(tmp_path: Path, subject: str) -> None:
    with pytest.raises(ConfigError, match="subject"):
        add_token(tmp_path / "tokens.toml", Token(DIGEST, subject))
    assert not (tmp_path / "tokens.toml").exists()


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    digests = [Secret(str(n)).digest() for n in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda digest: add_token(path, Token(digest, "ada")), digests))
    assert set(read_tokens(path)) == set(digests)


def test_nowhere_to_write(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: no such file or directory"):
        add_token(tmp_path / "none" / "tokens.toml", Token(DIGEST, "ada"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: not a directory"):
        write_private(tmp_path / "file" / "token", "x")


def test_every_error_is_told_and_no_token(tmp_path: Path) -> None:
    text = f"""
        [[token]]
        sha256 = "i-am-the-token-itself"
        subject = "ada"
        [[token]]
        {entry()}
        [[token]]
        {entry()}
    """
    said = refused(write(tmp_path / "tokens.toml", text))
    assert "token[0].sha256: must be the SHA-256 of the token" in said
    assert "token[2].sha256: is the token of 'ada' too" in said
    assert "i-am-the-token-itself" not in said


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("expires = 2030-01-01T00:00:00", "token[0].expires: "),
        ("expires = 2030-01-01", "token[0].expires: "),
        ("groups = 'a'", "token[0].groups: "),
        ("group = ['a']", "token[0].group: unknown key; did you mean 'groups'?"),
        ("token = 'plain'", "token[0].token: unknown key"),
    ],
)
def test_bad_entries(tmp_path: Path, line: str, wrong: str) -> None:
    said = refused(write(tmp_path / "tokens.toml", f"[[token]]\n{entry()}{line}\n"))
    assert wrong in said
    assert "plain" not in said


def test_what_others_may_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "tokens.toml", f"[[token]]\n{entry()}")
    path.chmod(0o620)
    assert f"chmod go-w {path}" in refused(path)
    path.chmod(0o644)
    assert DIGEST in read_tokens(path)


def tokens_file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "tokens.toml",
        f"""# of the lab
[[token]] # Ada's
{entry()}name = "laptop"

# Bob has two
[[ token ]]
{entry("cd" * 32)}name = "laptop"
[["token"]]
{entry("ce" * 32)}groups = []
name = '''
[[token]]
'''
# the end
""",
    )


def test_one_entry_goes_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    path = tokens_file(tmp_path)
    path.chmod(0o640)
    before = path.read_text()
    assert remove_token(path, "cdcdcdcd").sha256 == "cd" * 32
    gone = f'[[ token ]]\n{entry("cd" * 32)}name = "laptop"\n'
    assert path.read_text() == before.replace(gone, "")
    assert mode(path) == 0o640
    assert remove_token(path, "laptop").sha256 == DIGEST
    assert list(read_tokens(path)) == ["ce" * 32]
    assert path.read_text().startswith("# of the lab\n# Bob has two\n")


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("laptop", "'laptop' means 2 tokens; give one of their ids: abababababab, cdcdcdcdcdcd"),
        ("tablet", "no token has the name or id 'tablet'"),
        ("", "no token has the name or id ''"),
        ("abababa", "no token has the name or id"),
        ("ce" * 32, "token[2]: is written in a way that only people can change"),
    ],
)
def test_what_cannot_be_removed_is_told_and_nothing_changes(
    tmp_path: Path, which: str, said: str
) -> None:
    path = tokens_file(tmp_path)
    before = path.read_text()
    with pytest.raises(ConfigError) as refused_:
        remove_token(path, which)
    assert said in str(refused_.value)
    assert path.read_text() == before


def test_a_removal_and_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    digests = [Secret(str(n)).digest() for n in range(20)]
    for digest in digests[:10]:
        add_token(path, Token(digest, "ada"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda digest: remove_token(path, digest), digests[:10]))
        list(pool.map(lambda digest: add_token(path, Token(digest, "ada")), digests[10:]))
    assert set(read_tokens(path)) == set(digests[10:])
