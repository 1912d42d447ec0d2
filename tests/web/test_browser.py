"""The page as visitors see it, in a headless Chromium: what they upload becomes a video that plays, mistakes are told,
and several take turns."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from aa_jax.video import read_video

if find_spec("gradio") is None:
    pytest.skip("the page needs Gradio: pip install gradio", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="browsers are driven by Selenium: pip install selenium")
PROGRAMS = [shutil.which("chromium"), shutil.which("chromedriver")]
if None in PROGRAMS:
    pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver", allow_module_level=True)
# What a visitor may have to wait for, on a busy machine.
PATIENCE = 240


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the server works."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(web_model, folder):
    port = free_port()
    command = [sys.executable, "-m", "tests.web.server", str(web_model), str(folder), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        assert line.startswith("open "), line
        yield line.removeprefix("open ").strip()
        server.kill()


def line(folder):
    """How many have a turn or wait for it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int((folder / "line").read_text())


@contextlib.contextmanager
def occupied(folder):
    """Somebody's animation is being made."""
    (folder / "hold").touch()
    await_line(folder, 1)
    yield
    (folder / "hold").unlink()


def await_line(folder, length):
    end = time.monotonic() + PATIENCE
    while line(folder) != length:
        assert time.monotonic() < end, f"{line(folder)} in line, expected {length}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location, driver = PROGRAMS
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1100"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


class Visitor:
    """One window of the browser with the page in it: a session of its own."""

    def __init__(self, browser, address):
        browser.switch_to.new_window("window")
        self.browser, self.window = browser, browser.current_window_handle
        browser.get(address)
        self.until(lambda: self.plays("shown_pose"), "the bundled motion plays")

    def until(self, condition, what):
        end = time.monotonic() + PATIENCE
        self.browser.switch_to.window(self.window)
        while not (value := condition()):
            assert time.monotonic() < end, f"not in {PATIENCE} s: {what}; errors: {self.errors()}; {self.status()!r}"
            time.sleep(0.1)
        return value

    def find(self, selector):
        """An element, in this visitor's window, which is then in front."""
        return self.until(lambda: self.browser.find_elements("css selector", selector), selector)[0]

    def text(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map(element => element.innerText).join(' ')"
        return self.browser.execute_script(script, selector)

    def status(self):
        return self.text("#status")

    def errors(self):
        return self.text(".toast-body")

    def plays(self, name):
        return self.browser.execute_script(f"return document.querySelector('#{name} video')?.currentTime > 0.05")

    def click(self, selector):
        self.find(selector).click()

    def upload(self, field, *files):
        self.find(f"#{field} input[type=file]").send_keys("\n".join(map(str, files)))

    def result(self, folder):
        """The downloaded video, once it plays."""
        self.until(lambda: self.plays("result") and self.plays("beside"), "the animation plays")
        path = folder / "animation.mp4"
        path.unlink(missing_ok=True)
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
        self.click("#download")
        self.until(path.exists, "it is downloaded")
        return read_video(path)


@pytest.fixture
def visit(browser, address):
    home = browser.current_window_handle
    visitors = []

    def new():
        visitors.append(Visitor(browser, address))
        return visitors[-1]

    yield new
    for visitor in visitors:
        with contextlib.suppress(Exception):
            browser.switch_to.window(visitor.window)
            browser.close()
    browser.switch_to.window(home)


def requested(browser):
    """The addresses that the browser has asked for since it was last asked."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }


def test_what_is_uploaded_becomes_a_video_that_plays(visit, browser, address, uploads, tmp_path):
    visitor = visit()
    visitor.click("#reference button[aria-label='Clear'], #reference button[title='Clear'], #reference .icon-button")
    visitor.upload("reference", uploads / "person.png")
    visitor.click("#kind label:nth-of-type(2)")
    visitor.upload("pose", *sorted((uploads / "frames").iterdir()))
    visitor.until(lambda: visitor.plays("shown_pose"), "the uploaded pose plays")
    visitor.click("#animate")
    video = visitor.result(tmp_path)
    assert video.frames.shape == (4, 64, 48, 3)
    assert re.match("4 frames of 48x64 at 8 per second, seed 42: [0-9.]+ s", visitor.status()) and not visitor.errors()
    addresses = requested(browser)
    assert any("animation.mp4" in url for url in addresses)
    outside = {url for url in addresses if not url.startswith((address, "data:", "blob:"))}
    assert not outside - {"about:blank"}


def test_mistakes_are_told_without_our_folders(visit, tmp_path):
    bad = tmp_path / "dance.npz"
    bad.write_text("hello")
    visitor = visit()
    visitor.click("#kind label:nth-of-type(2)")
    visitor.click("#animate")
    visitor.until(lambda: "there is no pose: choose a bundled motion" in visitor.errors(), "told that there is no pose")
    visitor.upload("pose", bad)
    visitor.until(lambda: "dance.npz is damaged or no NumPy archive" in visitor.errors(), "told that it is damaged")
    assert "/" not in visitor.errors().replace("MP4/", "") and not visitor.plays("result")
    large = tmp_path / "large.npz"
    large.write_bytes(bytes(3_000_000))
    other = visit()
    other.click("#kind label:nth-of-type(2)")
    other.upload("pose", large)
    other.until(lambda: "large.npz" in other.errors() and "size" in other.errors(), "told that it is too large")


def test_two_users_at_once_take_turns_and_a_third_is_told(visit, folder, tmp_path):
    first, second = visit(), visit()
    with occupied(folder):
        first.click("#animate")
        first.until(lambda: "Waiting: 1 before yours." in first.status(), "told to wait")
        second.click("#animate")
        second.until(lambda: "1 animation is waiting, and there is no place for more" in second.errors(), "told")
        assert not second.plays("result")
    assert len(first.result(tmp_path).frames) == 4
    second.click("#animate")
    assert len(second.result(tmp_path).frames) == 4
    await_line(folder, 0)


def test_who_leaves_the_page_gives_up_the_place(visit, folder):
    visitor = visit()
    with occupied(folder):
        visitor.click("#animate")
        await_line(folder, 2)
        visitor.browser.get("about:blank")
        await_line(folder, 1)
