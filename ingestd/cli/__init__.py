"""The command line. A command that fails says where, what, and what to do; exit codes tell why.

0 done; 1 something failed; 2 wrong usage; 75 a busy world, try again; 78 wrong config.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from ingestd.errors import IngestdError

COMMANDS = {
    "run": "run",
    "check": "check",
    "status": "status",
    "tail": "read",
    "trace": "read",
    "verify": "read",
    "repair": "mend",
    "retry": "mend",
    "init": "starter",
    "schema": "starter",
}
"""Each command and its module, which is imported only when the command is called."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"ingestd.cli.{COMMANDS[name]}")
        command: click.Command = getattr(module, name)
        if not any(option.name == "config" for option in command.params):
            command.params.append(_config_option())
        return command


def _config_option() -> click.Option:
    def keep(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
        ctx.meta["ingestd.config"] = value

    return click.Option(
        ["-c", "--config"],
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=keep,
        help="Config file; default: ./ingestd.yaml if it is there, else the built-in config.",
    )


def config_path(ctx: click.Context) -> Path | None:
    """What the user gave with ``-c``."""
    path: Path | None = ctx.meta.get("ingestd.config")
    return path


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ingestd")
def cli() -> None:
    """Drop array files into a directory; get an HDF5 dataset that grows and survives anything.

    Start with 'ingestd run', then drop .npy, .npz or .csv files into drop/.
    """


def main() -> None:
    """Run a command, and end the process with its exit code."""
    try:
        cli.main(standalone_mode=False)
    except IngestdError as error:
        click.echo(f"ingestd: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        click.echo(f"ingestd: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
