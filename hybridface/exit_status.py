"""Exit statuses of the commands."""

__all__ = ["EXIT_DIFFERENT", "EXIT_ERROR", "EXIT_SAME"]

EXIT_SAME, EXIT_DIFFERENT, EXIT_ERROR = 0, 1, 2
