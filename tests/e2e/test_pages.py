"""The page of a job's own service, in a real browser, through a real gateway."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy

from tests.e2e.browser import browser, missing, other_picture, until
from tests.e2e.rig import Gateway


def test_viser_in_a_browser(
    gateway: Gateway, tmp_path: Path, require: Callable[[object, str], None]
) -> None:
    """The page loads and connects; a drag turns the scene, a slider changes it."""
    require(importlib.util.find_spec("viser"), "viser")
    require(importlib.util.find_spec("selenium"), "selenium")
    require(not missing(), missing() or "a browser")
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    started = gateway.ask("POST", "/start", {"usecase": "viser"})
    assert started.status == 201, started.body
    status = gateway.wait_ready(started.json["job_id"])
    url = f"http://{status['job_url']}"
    assert status["services"]["renderer"]["page"] == f"{url}/"
    with browser(tmp_path / "profile") as driver:
        driver.get(f"{url}?token={gateway.token}")
        # An address below which the parts of the page lie; viser itself adds a query.
        assert driver.current_url.partition("?")[0] == f"{url}/"
        assert gateway.token not in driver.current_url
        (cookie,) = driver.get_cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
        assert gateway.token not in cookie["value"]

        def text() -> str:
            return str(driver.find_element(By.TAG_NAME, "body").text)

        until(lambda: "Forks" in text() and "Connected" in text(), "the controls", driver)
        for button in driver.find_elements(By.CSS_SELECTOR, ".mantine-Notification-closeButton"):
            button.click()  # it complains of slow rendering, in front of the scene
        canvas = driver.find_element(By.TAG_NAME, "canvas")
        before = other_picture(canvas, "viser-1-before", numpy.full((1, 1, 3), 255))
        drag = ActionChains(driver).move_to_element_with_offset(canvas, -150, 50)
        drag.click_and_hold().move_by_offset(120, 30).release().perform()
        turned = other_picture(canvas, "viser-2-turned", before)
        # What a slider changes comes from the program, over the WebSocket.
        driver.find_element(By.CSS_SELECTOR, "[role=slider]").send_keys(Keys.ARROW_LEFT * 3)
        other_picture(canvas, "viser-3-fewer-forks", turned)
        driver.refresh()  # with the cookie alone
        until(lambda: "Forks" in text() and "Connected" in text(), "the controls", driver)
    assert gateway.token not in gateway.log
