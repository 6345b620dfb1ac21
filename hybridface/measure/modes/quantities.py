"""Write seconds and bytes for people: three digits and a unit."""

__all__ = ["bytes_text", "seconds_text"]

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def seconds_text(seconds: float) -> str:
    """Return 0.0123 as "12.3 ms", 1.234 as "1.23 s", 83 as "83.0 s", 1234 as "1,234 s"."""
    if seconds <= 0:
        return "0"
    if seconds < 0.9995:
        return f"{_digits(seconds * 1e3)} ms"
    return f"{_digits(seconds)} s"


def bytes_text(size: float) -> str:
    """Return 0 as "0", 12 as "12 B", 1234567 as "1.23 MB" (10^6 bytes)."""
    for factor, unit in _UNITS:
        if size >= factor * 0.9995:
            return f"{_digits(size / factor)} {unit}"
    return f"{size:.0f} B" if size else "0"


def _digits(value: float) -> str:
    """Return a number with three digits."""
    if value >= 999.5:
        return f"{value:,.0f}"
    places = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{places}f}"
