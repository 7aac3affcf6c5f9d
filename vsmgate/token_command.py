"""``vsmgate token``: makes, lists and revokes the tokens of a tokens file."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from vsmgate.auth.tokens import ID_LENGTH, Token, add_token, new_token, read_tokens, remove_token
from vsmgate.errors import ConfigError
from vsmgate.model import Secret

__all__ = ["token"]

_file = click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("var/tokens.toml"),
    show_default=True,
    help="The tokens file.",
)


class _MakesByDefault(click.Group):
    """Options without a command are those of ``make``, as they were before there were others."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_MakesByDefault)
def token() -> None:
    """Make, list and revoke tokens.

    A running gateway knows of a change within a second.
    """


@token.command()
@click.option("--subject", required=True, help="Whom the token stands for.")
@click.option("--groups", multiple=True, help="A group, or several with commas; repeatable.")
@click.option("--expires", metavar="TIME", help="When it ends: 2027-01-01, or with a time.")
@click.option("--name", default="", help="A note for people, such as the device.")
@_file
def make(subject: str, groups: tuple[str, ...], expires: str | None, name: str, file: Path) -> None:
    """Make a token, print it, and add its SHA-256 to the tokens file.

    The token is printed this once and kept nowhere. A missing file is made.
    """
    until = None if expires is None else _moment(expires)
    named = tuple(group for part in groups for group in part.split(",") if group)
    value = new_token()
    made = Token(Secret(value).digest(), subject, named, until, name, _now())
    try:
        add_token(file, made)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    click.echo(value)


@token.command("list")
@_file
def list_tokens(file: Path) -> None:
    """Show the tokens by their ids; nobody can show the tokens themselves."""
    try:
        tokens = read_tokens(file)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    rows = [("ID", "SUBJECT", "GROUPS", "CREATED", "EXPIRES", "NAME")]
    for found in tokens.values():
        expires = _day(found.expires)
        if found.expires is not None and found.expires <= _now():
            expires += " (over)"
        rows.append(
            (
                found.sha256[:ID_LENGTH],
                _plain(found.subject),
                _plain(",".join(found.groups)) or "-",
                _day(found.created),
                expires,
                _plain(found.name) or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@token.command()
@click.argument("which", metavar="NAME_OR_ID")
@_file
def revoke(which: str, file: Path) -> None:
    """Take the token of that name, or id, away.

    An id may be shortened to eight digits. Calls with the token are refused within a second,
    and WebSockets that were opened with it are closed within a minute.
    """
    try:
        gone = remove_token(file, which)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"revoked {gone.sha256[:ID_LENGTH]} of {_plain(gone.subject)}")


def _now() -> datetime:
    return datetime.fromtimestamp(int(time.time()), UTC)  # noqa: TID251  # an edge


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _plain(text: str) -> str:
    """Return ``text`` without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _moment(text: str) -> datetime:
    """Return the moment in ``text``; without an offset it is in this machine's zone."""
    try:
        moment = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        message = f"{text!r} is no time such as 2027-01-01 or 2027-01-01T12:00:00+00:00"
        raise click.BadParameter(message, param_hint="--expires") from None
    if moment <= _now():
        raise click.BadParameter(f"{text} is over", param_hint="--expires")
    return moment
