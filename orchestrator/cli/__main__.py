"""`python -m orchestrator.cli`, for those who start our programs by the interpreter they run in."""

from orchestrator.cli.main import main

if __name__ == "__main__":
    main()
