"""The page of `kaizen serve` in a real Chromium: an image is chosen, dropped and pasted, and its
answer is there, for the eye, the keyboard and a screen reader.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium
from PIL import Image
from served import NAMES, Server, picture, png, write_classes, write_step

SHOWN = "document.querySelectorAll('#answers section').length"
# What happens when a file is let go over the page.
DROP = """
(() => {
  const bytes = Uint8Array.from(atob("DATA"), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "NAME", { type: "image/png" }));
  const where = document.getElementById("drop");
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
    where.dispatchEvent(event);
  }
})()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    write_step(folder / "run", 0, NAMES[:6])
    held_out = write_classes(folder / "held-out")
    more = ("--follow", "--poll", "0.1", "--check", str(held_out), "--collect", str(folder / "c"))
    with Server(folder / "log", str(folder / "run"), *more) as server:
        yield server


@pytest.fixture(scope="module")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(browser: Chromium, server: Server) -> Chromium:
    browser.events.clear()
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.wait("document.getElementById('model').textContent.includes('answers')")
    return browser


def drop(page: Chromium, data: bytes, name: str) -> None:
    page.value(DROP.replace("DATA", base64.b64encode(data).decode()).replace("NAME", name))


def rows(page: Chromium) -> list[list[str]]:
    """The newest answer: class, share of the bar, number of each row."""
    found: list[list[str]] = page.value(
        "[...document.querySelector('#answers section').querySelectorAll('tr')].map((row) => ["
        "row.querySelector('th').textContent, row.querySelector('meter').value, "
        "row.querySelector('.number').textContent])"
    )
    return found


def test_an_image_is_chosen_and_another_dropped(
    page: Chromium, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "teal sea.png").write_bytes(png(picture("blue")))
    page.choose("#file", tmp_path / "teal sea.png")
    page.wait(f"{SHOWN} === 1")
    drop(page, png(picture("red")), "dropped.png")
    page.wait(f"{SHOWN} === 2")
    heads = page.value("[...document.querySelectorAll('h2')].map((one) => one.textContent)")
    assert heads[0].startswith("dropped.png: red, ")
    assert heads[1].startswith("teal sea.png: blue, ")
    answer = server.predict(png(picture("red")))[1]
    expected = [
        [one["class"], pytest.approx(one["probability"], abs=1e-5), f"{share:.1f} %"]
        for one in answer["answers"][0]["top"]
        for share in [100 * one["probability"]]
    ]
    assert rows(page) == expected
    text = page.value("document.querySelector('#answers section').innerText")
    assert f"Answered by step-00, key {answer['model']['key'][:12]}." in text
    assert page.value("document.querySelector('section img').naturalWidth") == 9
    assert {url.split("/")[2] for url in page.requested() if url.startswith("http")} == {
        f"127.0.0.1:{server.port}"
    }
    assert not page.complaints()


def test_what_is_no_image_is_said_in_a_sentence(page: Chromium) -> None:
    drop(page, b"<script>alert(1)</script>", "<b>bad</b>.png")
    page.wait("document.querySelector('.error') !== null")
    text = page.value("document.querySelector('.error').textContent")
    assert text.startswith("<b>bad</b>.png: ") and "cannot be read as an image" in text
    assert page.value("document.querySelector('#answers b')") is None


def test_feedback_is_given_with_the_keyboard(page: Chromium, server: Server) -> None:
    """From the top of the page by Tab alone: the field for files, then that for the class."""
    page.press("Tab", "Tab", 9)
    assert page.value("document.activeElement.id") == "file"
    outline = "getComputedStyle(document.getElementById('drop')).outlineStyle"
    assert page.value(outline) == "solid", "where the keyboard is can be seen"
    drop(page, png(picture("pink")), "pink.png")
    page.wait(f"{SHOWN} === 1")
    page.press("Tab", "Tab", 9)
    assert page.value("document.activeElement.type") == "text"
    page.send("Input.insertText", text="flamingo")
    page.press("Enter", "Enter", 13, "\r")
    page.wait("document.querySelector('section [role=status]').textContent.includes('flamingo')")
    assert server.good("/info")["collected"]["classes"] == {"flamingo": 1}


def test_a_screen_reader_has_all_of_it(page: Chromium) -> None:
    before = page.accessible()
    assert ("heading", "Which class is it?") in before
    fields = [name for role, name in before if "Drop an image here" in name and role != "LabelText"]
    assert fields, before
    drop(page, png(picture("red")), "one.png")
    page.wait(f"{SHOWN} === 1")
    nodes = page.accessible()
    found = [name for role, name in nodes if role == "rowheader"]
    assert found[0] == "red" and len(found) == 5
    assert any(role == "heading" and name.startswith("one.png: red, ") for role, name in nodes)
    assert any(role in ("image", "img") and "image that was given" in name for role, name in nodes)
    assert page.value("document.getElementById('answers').getAttribute('aria-live')") == "polite"
    assert page.value("document.documentElement.lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(page: Chromium, scheme: str) -> None:
    """Text stands out from its ground by WCAG's 4.5 to 1, measured from the styles in force."""
    page.send(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    drop(page, png(picture("red")), "one.png")
    drop(page, b"no image", "two.png")
    page.wait("!!document.querySelector('section') && !!document.querySelector('.error')")
    ground = page.value("getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    for selector in ("h1", "h2", "#model", "th", ".error", "a", "caption", "button"):
        colour = page.value(f"getComputedStyle(document.querySelector('{selector}')).color")
        lighter, darker = sorted([luminance(colour), luminance(ground)], reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (selector, colour, ground)
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
    assert (np.median(pixels) > 127) == (scheme == "light")


def luminance(colour: str) -> float:
    """The relative luminance of "rgb(1, 2, 3)", by WCAG."""
    levels = np.array([float(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_step_that_takes_over_is_named(page: Chromium, server: Server) -> None:
    write_step(server.log.parent / "run", 1, NAMES)
    server.wait_for("swaps", 1)
    drop(page, png(picture("teal")), "sea.png")
    page.wait(f"{SHOWN} === 1")
    text = page.value("document.querySelector('section').innerText")
    assert "sea.png: teal" in text and "Answered by step-01" in text
    page.wait("document.getElementById('model').textContent.includes('step-01')")


def test_the_page_of_the_interface_is_whole_offline(browser: Chromium, server: Server) -> None:
    browser.events.clear()
    browser.open(f"http://127.0.0.1:{server.port}/docs")
    assert "POST /predict" in browser.value("document.body.innerText")
    assert {url.split("/")[2] for url in browser.requested()} == {f"127.0.0.1:{server.port}"}
    assert not browser.complaints()
