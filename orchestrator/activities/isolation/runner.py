"""Runs a script's code inside the sandbox; handed to the interpreter as text.

Standard input brings code and input as JSON. The answer goes to descriptor 3, so that whatever the code prints, and to
wherever, is no part of it.
"""

import json
import linecache
import os
import sys
import traceback

NAME = "script.py"
ANSWER = 3


def main() -> None:
    """Call the code's `main(input)` and answer with its result, or with the error."""
    request = json.loads(sys.stdin.buffer.read())
    code = request["code"]
    # So that tracebacks show the script's lines.
    linecache.cache[NAME] = (len(code), None, code.splitlines(keepends=True), NAME)
    try:
        names = {"__name__": "script", "__file__": NAME}
        exec(compile(code, NAME, "exec"), names)  # noqa: S102 - that is its purpose, and the sandbox's
        function = names.get("main")
        if not callable(function):
            raise TypeError("the code defines no function main(input)")
        answer = json.dumps({"output": function(request["input"])}, allow_nan=False)
    except BaseException as error:  # sys.exit is the script's, too
        answer = json.dumps({"error": {"type": type(error).__name__, "message": str(error), "traceback": shown(error)}})
    sys.stdout.flush()
    with os.fdopen(ANSWER, "w") as out:
        out.write(answer)


def shown(error: BaseException) -> str:
    """The traceback from the script's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


if __name__ == "__main__":
    main()
