"""Run the command `hybridface`, also as `python -m hybridface`: from its first moment on, signals end it."""

from hybridface.signals import end_on_signals

__all__ = ["run"]


def run() -> None:
    """Run the command line."""
    end_on_signals()
    from hybridface.commands.main import main

    main()


if __name__ == "__main__":
    run()
