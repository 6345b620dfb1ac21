"""The report as a page: well formed, nothing from outside, hostile text, odd numbers, and a real browser."""

import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hybridface.measure.modes.page import report_page
from hybridface.measure.modes.quantities import bytes_text, seconds_text
from hybridface.measure.modes.summary import headline, summary_rows
from protocols.link import LINKS
from support.browser import visit
from support.modes_measurements import KNOWN, document

pytestmark = pytest.mark.slow

SECTIONS = ["summary", "privacy", "time", "bytes", "memory", "keys", "accuracy", "published", "method"]
VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "</style><script>alert(1)</script><img src=http://outside.example/x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Checks that elements nest, and keeps every element with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], "elements that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute of {tag} twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> of nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return document(command="hybridface bench modes --quick")


@pytest.fixture(scope="module")
def text(made: dict[str, Any]) -> str:
    return report_page(made)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def check_self_contained(text: str, page: Page) -> None:
    """Fail if anything refers to something outside the file."""
    assert not page.all("script")
    assert not page.all("iframe")
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "content"):
            value = attributes.get(name, "")
            assert not re.match(r"\s*([a-z+.-]+:|//)", value, re.IGNORECASE) or value == "data:,", (tag, name, value)
        assert not [name for name in attributes if name.startswith("on")], tag
    assert set(re.findall(r"url\(([^)]{0,1})", text)) <= {"#"}
    assert "@import" not in text
    outside = {
        found for found in re.findall(r"https?://[^\s\"'<)]+", text) if not found.startswith("http://www.w3.org/")
    }
    assert outside == set()


def test_nothing_comes_from_outside(text: str, page: Page) -> None:
    check_self_contained(text, page)


def test_references_within_the_page_hold(text: str, page: Page) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(names)) == len(names), "an id twice"
    targets = {a["href"].removeprefix("#") for _, a in page.elements if a.get("href", "").startswith("#")}
    targets |= {name for _, a in page.elements for name in a.get("aria-labelledby", "").split()}
    targets |= set(re.findall(r"url\(#([^)]+)\)", text))
    assert targets <= set(names)
    assert [a["id"] for a in page.all("section")] == SECTIONS


def test_figures_can_be_read_aloud_and_have_captions(page: Page) -> None:
    figures = page.all("svg")
    assert len(figures) == 2 * (len(LINKS) + 4)
    assert {figure["role"] for figure in figures} == {"img"}
    assert all(figure["aria-labelledby"] and figure["viewbox"] for figure in figures)
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(figures) // 2
    assert page.all("html")[0]["lang"] == "en"
    assert all(cell["scope"] for cell in page.all("th"))


def test_colours_follow_the_style_sheet(text: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "#a1b2" not in text, "a stand-in that was not exchanged"
    assert set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", drawn)) == set()
    used = set(re.findall(r"var\((--[a-z]+)\)", text))
    assert used <= set(re.findall(r"(--[a-z-]+):", text))


def test_the_page_says_what_was_measured(page: Page, made: dict[str, Any]) -> None:
    said = page.text
    row = next(row for row in made["measurements"] if (row["mode"], row["link"]) == ("hybrid", "mobile"))
    seconds = row["figures"]["online"]["seconds"]
    assert seconds_text(seconds["median"]) in said
    assert f"{seconds_text(seconds['min'])} to {seconds_text(seconds['max'])}" in said
    for expected in (
        "hybridface bench modes --quick",
        "1,364 s",
        "269 GB",
        "28.8 GB",
        "98.67%",
        made["machine"]["python"],
    ):
        assert expected in said
    assert "Quoted, not measured here" in said
    for privacy in made["privacy"].values():
        assert privacy["client"] in said
        assert privacy["trust"] in said


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(0, 0.0, 0.0, False, "none")
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 1e-9, 1.0, 1e6]),
    st.sampled_from([0.0, 1.0, 1e4]),
    st.booleans(),
    st.sampled_from(list(LINKS)),
)
def test_odd_values_make_a_page(seed: int, scale: float, size: float, accurate: bool, link: str) -> None:
    made = document([link], KNOWN if accurate else (), seed=seed, scale=scale, bytes_scale=size)
    text = report_page(made)
    page = Page(text)
    check_self_contained(text, page)
    assert ("Accuracy is not known" in page.text) == (not accurate)
    assert "nan" not in text
    assert [a["id"] for a in page.all("section")] == SECTIONS


def test_failures_are_told() -> None:
    made = document(["none"])
    for row in made["measurements"]:
        row |= {"status": "failed", "reason": "server: it broke", "figures": None, "stages": [], "peak_bytes": {}}
        row |= {"setup": None, "samples": []}
    page = Page(report_page(made))
    assert "No measured mode runs a network whose accuracy is known." in page.text
    assert page.text.count("server: it broke") >= len(made["measurements"])
    assert "No private mode was measured." in page.text


def test_hostile_text_stays_text() -> None:
    made = document(["none"], [*KNOWN[:1]], command=HOSTILE)
    made["photos"] = [HOSTILE, HOSTILE]
    made["machine"]["processor"] = HOSTILE
    made["machine"]["versions"] = {HOSTILE: HOSTILE}
    made["accuracy"].append({**asdict(KNOWN[0]), "mode": HOSTILE, "model": HOSTILE})
    for row in made["measurements"][:2]:
        row |= {"reason": HOSTILE, "figures": None, "stages": []}
    for row in made["measurements"][2:]:
        row |= {"model": HOSTILE}
    text = report_page(made)
    page = Page(text)
    assert not page.all("script")
    assert not page.all("img")
    assert not [a for _, a in page.elements if "onerror" in a]
    assert page.text.count(HOSTILE) > 8
    assert len(page.all("style")) == 1 + len(page.all("svg")), "one of the page, one of each figure"


@given(st.floats(0, 1e9))
def test_seconds_have_three_digits(seconds: float) -> None:
    number, _, unit = seconds_text(seconds).partition(" ")
    value = float(number.replace(",", "")) * {"": 0, "ms": 1e-3, "s": 1}[unit]
    assert value == pytest.approx(seconds, rel=6e-3, abs=6e-6)
    assert len(number.replace(".", "").replace(",", "")) >= 3 or seconds == 0 or unit == "ms"


@given(st.integers(0, 10**13))
def test_bytes_have_a_unit_that_fits(size: int) -> None:
    number, _, unit = bytes_text(size).partition(" ")
    factor = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert float(number.replace(",", "")) * factor == pytest.approx(size, rel=6e-3)


def test_the_summary_prefers_a_wide_area_network() -> None:
    assert "“wan”" in headline(document())[0]
    assert "“mobile”" in headline(document(["mobile", "lan"]))[0]
    assert "one machine" in headline(document(["none"]))[0]
    rows = summary_rows(document())
    assert [row["computed"] for row in rows] == [True, True, False, False, False, True, True, False]
    assert [row["accuracy"] for row in rows][2:5] == ["98.7%", "88.9%", "88.9%"]


def test_a_browser_opens_the_page_without_errors_or_requests(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    seen = visit(path)
    assert seen.console == []
    assert seen.requests == []
    assert [a["id"] for a in Page(seen.content).all("section")] == SECTIONS
    assert seen.content.count("<svg") == text.count("<svg")


def test_the_browser_would_tell_errors_and_requests(tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text('<!DOCTYPE html><img src="http://127.0.0.1:9/x.png"><script>missing()</script>')
    seen = visit(path)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert any("missing is not defined" in line for line in seen.console)


def test_without_a_browser_a_test_is_skipped_or_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI_BROWSER", raising=False)
    kinds: list[Any] = []
    for value in ("", "1"):
        monkeypatch.setenv("CI_BROWSER", value)
        with pytest.raises(BaseException, match="apt-get install chromium") as caught:
            visit(tmp_path / "page.html")
        kinds.append(caught.type)
    assert kinds == [pytest.skip.Exception, pytest.fail.Exception]
