"""A headless chromium, driven by what a person reads: Dagster's built pages carry no test ids."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium with chromedriver; on Debian: apt install chromium-driver"
)
_FLAGS = (
    *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync", "window-size=1500,1000"),
)
_SOON = 60.0  # seconds: a page that answers from two busy cores

T = TypeVar("T")


class Browser:
    """One window. Whatever is asked of it waits for the page; a wait that ends in vain tells what was on it."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    @property
    def text(self) -> str:
        """What is to be read on the page, a line an element."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def until(self, what: Callable[[], T], told: str, seconds: float = _SOON) -> T:
        """The first true answer. Elements that the page replaces or covers in the meantime are looked for again."""
        wait = WebDriverWait(self.driver, seconds, 0.3, ignored_exceptions=[WebDriverException])
        try:
            return wait.until(lambda _: what())
        except TimeoutException:
            pytest.fail(f"{told}: not within {seconds:.0f} s at {self.driver.current_url}, where is\n{self.text}")

    def reads(self, *words: str, seconds: float = _SOON) -> None:
        """Wait until all of `words` stand on the page."""
        self.until(lambda: all(word in self.text for word in words), f"reads {words}", seconds)

    def push(self, label: str) -> None:
        """Click the button of this label, once it can be clicked."""
        self._click(f'//button[normalize-space()="{label}"]', label)

    def click(self, words: str) -> None:
        """Click the element whose own text is `words`."""
        self._click(f'//*[text()[normalize-space()="{words}"]]', words)

    def tick(self, words: str) -> None:
        """Click the box whose label begins with `words`."""
        self._click(f'//label[starts-with(normalize-space(), "{words}")]', words)

    def fill(self, placeholder: str, value: str) -> None:
        """Type into the field whose placeholder begins so, and Enter."""
        path = f'//input[starts-with(@placeholder, "{placeholder}")]'
        field = self.until(lambda: self.driver.find_element(By.XPATH, path), f"a field {placeholder!r}")
        field.send_keys(value, Keys.ENTER)

    def escape(self) -> None:
        self.driver.switch_to.active_element.send_keys(Keys.ESCAPE)

    def wide(self, source: str) -> int:
        """Pixels of the image whose address begins so; 0 while it is not loaded, or none."""
        image = self.driver.find_element(By.CSS_SELECTOR, f'img[src^="{source}"]')
        return int(str(image.get_property("naturalWidth")))

    def _click(self, path: str, told: str) -> None:
        def clicked() -> bool:
            for element in self.driver.find_elements(By.XPATH, path):
                if element.is_displayed() and element.is_enabled():
                    element.click()
                    return True
            return False

        self.until(clicked, f"clicks {told!r}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A window with a fresh profile; chromium and its driver end with it, whatever becomes of the test."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="backfill-browser-", ignore_cleanup_errors=True) as folder:
        options = ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*_FLAGS, f"user-data-dir={folder}/profile"):
            options.add_argument(f"--{flag}")
        # The path is given, and SE_OFFLINE: else selenium looks for a driver on the network.
        service = Service(DRIVER, env={**os.environ, "HOME": folder, "SE_OFFLINE": "true"})
        driver = Chrome(options, service)
        try:
            yield Browser(driver)
        finally:
            driver.quit()
