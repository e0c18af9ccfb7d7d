"""One file a command: arguments in, exit status out.

``main`` is where everything ends: each error becomes one line on standard error and an exit status, never a traceback. A command's module
is imported when it is called, and nothing heavy (numba, pandas) at the top of any, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from auditor import __version__
from auditor.cli._help import Entry, dress, page
from auditor.cli._parameters import spare_pydantic
from auditor.errors import AuditorError, did_you_mean
from auditor.report._text import escape

COMMANDS = {
    "audit": "Audit captures: what is documented, undeclared or wrongly authenticated.",
    "run": "One scheduled pass over a spool of captures; --watch keeps running.",
    "history": "What earlier audits found, and what changed between two of them.",
    "review": "The history in a local web page: findings, packets, comparison, waivers.",
    "live": "Audit live traffic: interfaces, VMs over ssh or bosh ssh, streams.",
    "agent": "On a VM: send connections and evidence, not packets, to a collector.",
    "collect": "Take what agents send, and audit it together.",
    "connections": "Only the connection table, without verdicts.",
    "encryption": "What is still sent unencrypted, by path and by VM.",
    "dissect": "The full protocol tree of one connection (tshark), credentials masked.",
    "slice": "The packets of a finding or a connection, as a capture file.",
    "explain": "What a rule or a documented path means, and what to do.",
    "policy": "List, show and check policies.",
    "inventory": "Show, check, import or infer which address is which VM.",
    "doctor": "What is installed on this machine, what is missing, and the consequences.",
}
"""Every command with its line in the help; each is ``app``, or the function of its name, of the module of its name."""

COMPLETE = "_AUDITOR_COMPLETE"
"""Environment variable set by a shell that asks for completions."""
USAGE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
_INTERRUPTED = "interrupted"

ClickError: Any = typer.BadParameter.__mro__[2]
"""Base class of every argument error; its module differs between versions of typer."""


class _Commands(TyperGroup):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"auditor.cli.{cmd_name}")
        offered = getattr(module, "app", None)
        if offered is None:
            offered = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
            offered.command()(getattr(module, cmd_name))
        command = dress(spare_pydantic(typer.main.get_command(offered)))
        command.name = cmd_name
        return command

    def get_help(self, ctx: Any) -> str:
        made = page(self, ctx, [Entry(name, says) for name, says in COMMANDS.items()])
        return f"{made.as_text()}\nauditor COMMAND -h shows the help of a command.".rstrip("\n")

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            if args[0] in ("completion", "completions"):
                raise ClickError(
                    "completion has options: --show-completion SHELL prints the script, --install-completion SHELL installs it; SHELL is bash, zsh or fish"
                )
            raise ClickError(
                f"unknown command {args[0]!r}; {did_you_mean(args[0], COMMANDS, 'auditor -h lists the commands')}"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(CLOSED_PIPE) from None
        except KeyboardInterrupt:
            complain(_INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None


def _root(
    ctx: typer.Context,
    version: bool = typer.Option(
        False, "--version", help="Show the version; with --verbose also those of libraries, tools and policies."
    ),
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="With --version: also Python, libraries, tools and policies."
    ),
    show_completion: str = typer.Option(
        "",
        "--show-completion",
        metavar="SHELL",
        help="Print the completion script for bash, zsh or fish.",
        show_default=False,
    ),
    install_completion: str = typer.Option(
        "",
        "--install-completion",
        metavar="SHELL",
        help="Install the completion script for your user.",
        show_default=False,
    ),
) -> None:
    """Audits captures of Cloud Foundry / TAS Diego VMs against the documented network paths."""
    if version:
        from auditor.cli._machine import versions

        print("\n".join(versions()) if verbose else f"auditor {__version__}")
    elif show_completion:
        from auditor.cli._complete import script

        print(script(show_completion), end="")
    elif install_completion:
        from auditor.cli._complete import install

        for line in install(install_completion):
            print(line)
    elif ctx.invoked_subcommand is not None:
        return
    else:
        print(ctx.get_help())
    raise typer.Exit(0)


app = typer.Typer(
    name="auditor",
    cls=_Commands,
    callback=_root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def complain(says: object) -> None:
    """One line on standard error."""
    with contextlib.suppress(
        OSError, ValueError, AttributeError
    ):  # standard error is closed: the exit status still says it
        print(f"auditor: {escape(' '.join(str(says).split()))}", file=sys.stderr, flush=True)


def _usage(error: Any) -> str:
    where = error.ctx.command_path if getattr(error, "ctx", None) else "auditor"
    says = error.format_message().rstrip(".")
    if getattr(error, "option_name", None) and hasattr(error, "possibilities"):
        known = [name for each in error.ctx.command.get_params(error.ctx) for name in each.opts] if error.ctx else []
        close = did_you_mean(error.option_name, known, "")
        says = f"unknown option {error.option_name!r}" + (f"; {close}" if close else "")
    wrong = _WRONG.match(says)
    if wrong and wrong["command"] and error.ctx:
        hint = did_you_mean(
            wrong["command"], error.ctx.command.list_commands(error.ctx), f"{where} -h lists the commands"
        )
        says = f"unknown command {wrong['command']!r}; {hint}"
    elif wrong and wrong["option"]:
        says = f"{wrong['option']}: {'a whole number' if wrong['type'] == 'integer' else 'a number'} is expected"
    return f"{says} ({where} --help)"


_WRONG = re.compile(
    r"No such command '(?P<command>[^']*)'|Invalid value for '(?P<option>[^']*)'.*: Input should be a valid (?P<type>integer|number)"
)
"""Messages of the libraries beneath that are said in our own words."""


def _internal(error: BaseException) -> str:
    """Class and place of an unexpected error; its own text may quote captured content."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if f"{os.sep}auditor{os.sep}" in code.co_filename:
            place = f" in {Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"internal error: {type(error).__name__}{place}; please report it with the command and the version {__version__}"


def _call(argv: Sequence[str]) -> int:
    try:
        if COMPLETE in os.environ:
            from auditor.cli._complete import answer

            return answer(os.environ)
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            if argv[:1] == ["help"]:  # what many programs have
                argv = [*argv[1:], "--help"]
            command = spare_pydantic(typer.main.get_command(app))
            status = command.main(args=list(argv), prog_name="auditor", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except AuditorError as error:
        complain(error)
        for other in getattr(error, "others", ()):
            complain(other)
    except ClickError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # a group of commands without a command: show its help
            print(error.ctx.get_help())
            return 0
        complain(_usage(error))
    except (KeyboardInterrupt, typer.Abort):
        complain(_INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        return CLOSED_PIPE
    except MemoryError:
        complain("out of memory")
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        complain(f"{name}{error.strerror or error}")
    except Exception as error:  # last resort: one line that can be reported, instead of a traceback
        complain(_internal(error))
    return USAGE


def _finish(status: int) -> int:
    """Flush standard output; a closed pipe is not an error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError) as error:
            if isinstance(error, BrokenPipeError):
                status = CLOSED_PIPE
            elif stream is sys.stdout and isinstance(error, OSError):
                complain(f"standard output: {error.strerror or error}")
                status = USAGE
            # Python flushes again when it exits and would print an error: give it a place to flush to.
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
    return status


def _make_interruptible() -> None:
    """Let Ctrl-C end the process wherever it falls.

    Raised inside a callback of compiled code (while kernels are loaded or compiled) a KeyboardInterrupt is printed and lost: so it is raised
    again until it gets through, and what was lost is not printed.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return

    def again(_number: int, _frame: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        raise KeyboardInterrupt

    told = sys.unraisablehook

    def untold(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            told(lost)

    signal.signal(signal.SIGINT, again)
    signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = untold


def _give_memory_back() -> None:
    """Let glibc return large arrays to the system as soon as they are freed; by default it soon keeps all below 32 MiB."""
    import ctypes

    m_mmap_threshold, size = -3, 1 << 18  # mallopt(3)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(m_mmap_threshold, size)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    try:
        if argv is None:
            _make_interruptible()  # first, because the other imports are slow
            # No matrices are computed here: BLAS threads would only spin. Objects of an audit live until its end: collect garbage less often.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
            # pydantic would search all installed packages for plugins.
            os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
            gc.set_threshold(250_000, 20, 40)
            gc.enable()
            _give_memory_back()
        return _finish(_call(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        complain(_INTERRUPTED)
        return INTERRUPTED
    finally:
        if argv is None:
            # The interrupt was delivered, or there was none: raise nothing more.
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)


def start() -> NoReturn:
    """Entry point of the installed program: one command, then the process ends.

    Python would free every object first, a fifth of the time of a short audit; the operating system does it at once. What
    was registered with ``atexit`` runs, and with other threads, a debugger or a profiler the process ends in the usual way.
    """
    status = main()
    if threading.active_count() == 1 and sys.gettrace() is None and sys.getprofile() is None:
        atexit._run_exitfuncs()
        os._exit(_finish(status))
    sys.exit(status)
