"""A chat in the terminal, with memory and a tool: `python examples/terminal_chat.py`.

/model provider/model asks only that model from now on, and /model any model again. /branch NAME begins a branch or goes
back to one. /save FILE and /load FILE keep the conversation. Ctrl-C stops an answer. An empty line, Ctrl-D or Ctrl-C at
the prompt ends the program. The command `llm-dispatcher chat` is a chat like this one, with more commands.
"""

import sys
from datetime import datetime

from llm_dispatcher import LLM, LLMDispatcherError, Session, StreamingCallbacks
from llm_dispatcher.events import StreamSwitched, ToolCall


def current_time() -> str:
    """The date and the time where the user is."""
    return f"{datetime.now().astimezone():%A, %d %B %Y, %H:%M}"


def report_switch(switch: StreamSwitched, _: object) -> None:
    print(f" [{switch.to_target} continues] ", end="", file=sys.stderr)


def report_call(call: ToolCall, _: object) -> None:
    print(f" [{call.name}] ", end="", file=sys.stderr)


def read_line() -> str:
    """The line that the user types; an empty string at the end of the input."""
    try:
        return input("you:   ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return ""


def answer(session: Session, words: str) -> None:
    """Show the answer while it arrives. The session keeps both turns, however the stream ends."""
    print("model: ", end="")
    try:
        for chunk in session.stream(words):
            print(chunk, end="", flush=True)
    except KeyboardInterrupt:
        print(" …", end="")  # the vendor's connection is closed
    print()


def follow(session: Session, command: str) -> Session:
    """Follow a command. Returns the session that the conversation goes on in."""
    name, _, argument = command.partition(" ")
    match name:
        case "/model":
            session.llm = session.llm.with_options(model=argument or None)
        case "/branch" if argument in session.branches:
            session.switch_to(argument)
        case "/branch":
            session.branch(argument)
        case "/save":
            session.save(argument)
        case "/load":
            return Session.load(argument, session.llm)
        case _:
            print(f"{name} is not one of /model, /branch, /save and /load")
    return session


def main() -> None:
    callbacks = StreamingCallbacks(on_switch=report_switch, on_tool_call=report_call)
    session = Session(LLM(system="Answer briefly and kindly.", tools=[current_time], callbacks=callbacks))
    while words := read_line():
        try:
            if words.startswith("/"):
                session = follow(session, words)
            else:
                answer(session, words)
        except (LLMDispatcherError, ValueError, OSError) as error:
            print(f"({error})")


if __name__ == "__main__":
    main()
