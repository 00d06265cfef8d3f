"""The command line. A command that fails says where, what, and what to do; exit codes tell why.

0 done; 1 something failed; 2 wrong usage; 75 a busy world, try again; 78 wrong config.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import click

from ingestd.errors import IngestdError

COMMANDS = {
    "run": ("run", "Watch drop directories and append what is dropped."),
    "check": ("check", "Check the config, the directories and the formats."),
    "status": ("status", "Say how each source is doing."),
    "tail": ("tail", "Print rows as they are committed."),
    "trace": ("read", "Print the drop file that a row came from."),
    "verify": ("read", "Read every committed row back, and compare."),
    "repair": ("mend", "Make an HDF5 file that a crash left behind open again."),
    "retry": ("mend", "Put quarantined files back."),
    "put": ("put", "Hand files in, and wait until their rows are durable."),
    "init": ("starter", "Write a commented starter config."),
    "schema": ("starter", "Print the config's JSON Schema."),
}
"""Each command: its module, which is imported only when the command is called, and what it does."""


_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(_imported(COMMANDS[name][0]), name)
        if not any(option.name == "config" for option in command.params):
            command.params.append(_config_option())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _imported(module: str) -> ModuleType:
    """The module. What an import makes stays until the end: looking for garbage among it, now and
    when the process ends, would take a fifth of a short command's time. NumPy's algebra would
    start a thread for each core, which take a tenth; files are decoded side by side anyway."""
    gc.disable()
    asked = os.environ.get(_BLAS_THREADS)
    os.environ[_BLAS_THREADS] = asked or "1"
    try:
        return importlib.import_module(f"ingestd.cli.{module}")
    finally:
        # Programs that this one starts have theirs.
        if asked is None:
            del os.environ[_BLAS_THREADS]
        gc.freeze()
        gc.enable()


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
    # pydantic would look for plugins in every package that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
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
