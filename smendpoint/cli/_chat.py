"""``smendpoint chat``: a conversation in the terminal, or over a pipe."""

from __future__ import annotations

import argparse
import io
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

from smendpoint.cli._invoke import Reports
from smendpoint.cli._options import (
    HANDLERS,
    MORE_HANDLERS,
    add_handler_option,
    add_options,
    make_endpoint,
    make_handler,
    parameters,
    told,
)
from smendpoint.cli._terminal import Output, complain, draws
from smendpoint.errors import ConfigurationError, SmendpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from smendpoint.cli._markdown import Markdown

# The handlers that take messages.
CHATS = {name: {**HANDLERS, **MORE_HANDLERS}[name] for name in ("chat", "jumpstart-chat", "auto")}
HELP = """\
/help           show this list
/reset          start again, with the same system message
/system [TEXT]  start again, with this system message, or without one
/retry          send the last message again
/save FILE      write the conversation as JSON, an input for invoke
/stats          turn tokens and time after each answer on or off
/quit           exit; Ctrl-D does the same
Enter sends, Alt-Enter starts a new line, Ctrl-C stops an answer."""


EXAMPLES = """
smendpoint chat my-chat --system "You are brief." --stats
smendpoint chat my-chat --history ~/.smendpoint-history --param temperature=0.2
printf '%s\\n' "Who was Ada Lovelace?" "When was she born?" | smendpoint chat my-chat
"""


def add_command(commands: argparse._SubParsersAction[Any]) -> None:
    handlers = "; ".join(f"{name}: {about}" for name, (_, about) in CHATS.items())
    parser = commands.add_parser(
        "chat",
        help="chat with an endpoint",
        description="Talks to a chat model. Commands begin with a slash: /help lists them. If standard "
        "input is not a terminal, each of its lines is a message, and only the answers are written.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's name")
    parser.add_argument("--system", metavar="TEXT", help="a system message, before the conversation")
    parser.add_argument("--handler", choices=CHATS, default="chat", help=f"{handlers} (default: %(default)s)")
    parser.add_argument("--history", metavar="FILE", help="keep the typed lines for the next time")
    parser.add_argument("--stats", action="store_true", help="show tokens and time after each answer")
    parser.add_argument("--plain", action="store_true", help="do not render Markdown")
    add_handler_option(parser)
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if sys.stdin is None:
        raise ConfigurationError("there is no standard input to read messages from")
    handler = make_handler(arguments, CHATS)
    model = parameters(arguments.param)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with make_endpoint(arguments, handler, Reports(False)) as endpoint:
        chat = Chat(endpoint, arguments, model, _markdown(arguments) if terminal else None, terminal)
        if terminal:
            complain(f"{arguments.endpoint}: /help lists the commands, Ctrl-D exits")
            _talk(chat, _reader(arguments.history), arguments.options)
        else:
            for line in _lines(sys.stdin):
                if line.strip():
                    chat.ask(line.rstrip("\r\n"))
    return 0


def _lines(stdin: TextIO) -> Iterator[str]:
    """Yield the lines of a pipe: UTF-8 in every locale.

    Raises:
        ConfigurationError: a line is not UTF-8.
    """
    if isinstance(stdin, io.TextIOWrapper):
        stdin.reconfigure(encoding="utf-8", errors="strict")
    try:
        yield from stdin
    except UnicodeDecodeError:
        raise ConfigurationError("standard input is not UTF-8 text") from None


def _talk(chat: Chat, read: Callable[[], str], options: Mapping[str, str]) -> None:
    """Read lines until there are no more. A failure or Ctrl-C ends an answer, but not the conversation."""
    while True:
        try:
            line = read()
            if line.startswith("/"):
                if not chat.command(line):
                    return
            elif line.strip():
                chat.ask(line)
        except EOFError:
            return
        except KeyboardInterrupt:
            complain("Ctrl-D ends the conversation")
        except ConfigurationError as error:
            complain(told(error, options))
        except SmendpointError as error:
            complain(f"{type(error).__name__}: {told(error, options)}")
            complain("/retry sends the message again")


class Chat:
    """A conversation.

    Args:
        endpoint: the endpoint that answers.
        arguments: the arguments of the command.
        model: parameters for the model.
        markdown: renders answers; ``None`` writes them unchanged.
        terminal: whether a user types: Ctrl-C then ends an answer, and not the program.

    Attributes:
        messages: the conversation, as it is sent to the endpoint.
        unanswered: the last message of the user, if its call failed: it is not in `messages`.
    """

    def __init__(
        self,
        endpoint: Any,
        arguments: argparse.Namespace,
        model: dict[str, Any],
        markdown: Markdown | None,
        terminal: bool,
    ) -> None:
        self._endpoint = endpoint
        self._stop = arguments.stop
        self._model = model
        self._markdown = markdown
        self._terminal = terminal
        self._stats = arguments.stats
        self.messages: list[dict[str, Any]] = []
        self.unanswered: str | None = None
        if arguments.system is not None:
            self.messages.append({"role": "system", "content": arguments.system})

    # -- input

    def command(self, line: str) -> bool:
        """Run a command that begins with a slash; return whether the conversation continues.

        Raises:
            ConfigurationError: there is no such command, or its argument is not valid.
        """
        name, _, rest = line[1:].partition(" ")
        if name == "quit":
            return False
        run = getattr(self, f"_do_{name}", None) if name.isidentifier() else None
        if run is None:
            raise ConfigurationError(f"there is no command /{name}; /help lists the commands")
        if rest.strip() and name not in ("save", "system"):
            raise ConfigurationError(f"/{name} takes no argument, not {rest.strip()!r}")
        run(rest.strip())
        return True

    def _do_help(self, _rest: str) -> None:
        print(HELP)

    def _do_reset(self, _rest: str) -> None:
        self.messages = [message for message in self.messages if message["role"] == "system"]
        self.unanswered = None

    def _do_system(self, text: str) -> None:
        self.messages = [{"role": "system", "content": text}] if text else []
        self.unanswered = None

    def _do_stats(self, _rest: str) -> None:
        self._stats = not self._stats
        complain("tokens and time are shown" if self._stats else "tokens and time are not shown")

    def _do_retry(self, _rest: str) -> None:
        text = self.unanswered
        if text is None:
            asked = [index for index, message in enumerate(self.messages) if message["role"] == "user"]
            if not asked:
                raise ConfigurationError("/retry: there is no message to send again")
            text = self.messages[asked[-1]]["content"]
            del self.messages[asked[-1] :]
        self.ask(text)

    def _do_save(self, path: str) -> None:
        if not path:
            raise ConfigurationError("/save takes the name of a file")
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(self.messages, file, ensure_ascii=False, indent=2)
                file.write("\n")
        except OSError as error:
            raise ConfigurationError(f"/save: cannot write {path!r}: {error.strerror}") from None
        complain(f"saved {len(self.messages)} messages to {path}")

    # -- answers

    def ask(self, text: str) -> None:
        """Send a message, and write the answer as it arrives.

        Ctrl-C ends the answer; the part that arrived stays in the conversation. After a failure the message is
        `unanswered`.
        """
        self.unanswered = text
        messages = [*self.messages, {"role": "user", "content": text}]
        said: list[str] = []
        stream = self._endpoint.stream(messages, stop=self._stop, parameters=self._model)
        try:
            with stream as chunks:
                self._show(_texts(chunks, said))
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            complain("interrupted")
            if not any(said):
                return
        self.messages = [*messages, {"role": "assistant", "content": "".join(said)}]
        self.unanswered = None
        if self._stats:
            complain(_summary(stream))

    def _show(self, texts: Iterator[str]) -> None:
        if self._markdown is not None:
            self._markdown.show(texts)
            return
        out = Output()
        try:
            for text in texts:
                out.text(text)
        finally:
            out.text("\n")


def _texts(chunks: Any, said: list[str]) -> Iterator[str]:
    """Yield the texts of a stream's chunks, and keep them."""
    for chunk in chunks:
        said.append(str(chunk))
        yield said[-1]


def _summary(stream: Any) -> str:
    """Describe the tokens and the time of an answer."""
    parts = []
    usage = stream.usage
    if usage is not None and usage.completion_tokens is not None:
        parts.append(f"{usage.prompt_tokens or 0} + {usage.completion_tokens} tokens")
    if stream.time_to_first_chunk is not None:
        parts.append(f"first text after {stream.time_to_first_chunk:.2f} s")
    parts.append(f"{stream.elapsed:.2f} s")
    return ", ".join(parts)


def _markdown(arguments: argparse.Namespace) -> Markdown | None:
    """Return the renderer of Markdown, if rich is installed and the terminal can draw."""
    if arguments.plain or not draws(sys.stdout):
        return None
    try:
        from smendpoint.cli._markdown import Markdown
    except ImportError:
        return None
    return Markdown()


def _reader(history: str | None) -> Callable[[], str]:
    """Return the function that reads a message from the terminal: with prompt_toolkit, or else Python's `input`."""
    try:
        from prompt_toolkit import PromptSession
    except ImportError:
        if history is not None:
            raise ConfigurationError("--history needs prompt_toolkit: pip install 'smendpoint[cli]'") from None
        return lambda: input("> ")
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    kept = InMemoryHistory() if history is None else FileHistory(history)
    session: PromptSession[str] = PromptSession("> ", history=kept, key_bindings=keys)
    return session.prompt
