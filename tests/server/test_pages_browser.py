"""The page in a real Chromium, against ``holdfast serve`` in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chromium import browser as chromium
from chromium import expect

from holdfast import Holdfast
from holdfast.memory.checkpoint import read_key
from holdfast.memory.models import Role
from holdfast.memory.verifier import verify_bundle
from holdfast.server import demo_data

HOLDFAST = Path(sys.executable).with_name("holdfast")
PHONE, DESK = {"width": 375, "height": 740}, {"width": 1440, "height": 900}
MANY = 2_000
PATIENCE = 15_000  # milliseconds
FIRST_VIEW = 100_000  # bytes
ODD = (
    "I like <b onclick=alert(1)>bold</b> & \"quoted\" <script>alert('x')</script> claims.",
    "אני לא אוכל אגוזים, אף פעם.",
    "Never say " + "Donaudampfschifffahrtsgesellschaft" * 12 + " to me.",
    "Call me \u202eyllacitamard\u202c only in an emergency.",
)


@dataclass(frozen=True)
class Site:
    """A server with people in it, and keys."""

    url: str
    keys: dict[Role, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(folder / "config")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        with Holdfast.open(folder / "data") as holdfast:
            keys = _fill(holdfast)
    command = [HOLDFAST, "serve", "--json", "--data", folder / "data", "--port", "0"]
    popen = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        assert popen.stdout is not None
        yield Site(json.loads(popen.stdout.readline())["url"], keys)
    finally:
        popen.terminate()
        popen.communicate(timeout=60)


def _fill(holdfast: Holdfast) -> dict[Role, str]:
    for said in demo_data.STATEMENTS:
        how = {"kind": said.kind, "strength": said.strength, "scope": said.scope}
        holdfast.add("tove", said.text, split=False, **how)
    for decided in demo_data.DECISIONS:
        holdfast.decide("tove", **decided._asdict())
    holdfast.propose("tove", "Wants short answers. Never flies.", source="model:helper")
    for prompt in ("Which wine goes with dessert?", "Plan a holiday by the sea"):
        holdfast.retrieve("tove", prompt)
    for text in ODD:
        holdfast.add("odd <i>one</i>", text, split=False)
    said = [f"Rule {n}: I like subject {n % 97} more than {n % 89}." for n in range(MANY)]
    holdfast.add_many("many", said, split=False, kind="preference", strength="should")
    holdfast.audit.checkpoint()
    roles: tuple[Role, ...] = ("admin", "auditor")
    return {role: holdfast.access.create(role, role=role)[1] for role in roles}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@contextmanager
def looking(
    browser: Any, site: Site, at: str, *, role: Role = "admin", strict: bool = True, **how: Any
) -> Generator[Any]:
    """Look at a path, signed in; if ``strict``, nothing may go wrong in the browser meanwhile."""
    wrong: list[str] = []
    context = browser.new_context(base_url=site.url, **{"viewport": DESK, **how})
    try:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto("/sign-in")
        page.fill("#key", site.keys[role])
        page.keyboard.press("Enter")
        page.wait_for_selector("nav")
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
        page.on("request", lambda sent: (
            sent.url.startswith((site.url, "data:")) or wrong.append(sent.url)
        ))  # fmt: skip
        page.goto(at)
        yield page
        assert not (strict and wrong)
    finally:
        context.close()


def words(page: Any, selector: str) -> str:
    return page.locator(selector).inner_text()


# Each view, by click and by key


def test_a_person_signs_in_by_key_and_out(browser: Any, site: Site) -> None:
    context = browser.new_context(base_url=site.url)
    page = context.new_page()
    page.goto("/values/tove")
    assert page.evaluate("document.activeElement.id") == "key"
    page.keyboard.type("hf_live_nonsense")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert] >> text=lets nobody in")
    page.keyboard.type(site.keys["admin"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/values/tove")
    assert page.evaluate("document.cookie") == ""
    page.click("text=Sign out")
    page.wait_for_url("**/sign-in")
    page.goto("/values/tove")
    assert page.locator("#key").count() == 1
    context.close()


def test_statements_are_read_mended_kept_revised_and_retired(browser: Any, site: Site) -> None:
    with looking(browser, site, "/values/lou") as page:
        page.get_by_label("In plain words").fill("I never eat shrimp. Call me Lou!")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Read as 2 statements")
        assert "Read as 2" in page.evaluate("document.activeElement.textContent")
        page.get_by_label("Words of statement 1").fill("I never eat shrimp or crab.")
        page.locator("#strength-1").select_option("prefer")
        page.get_by_label("Keep 2").press("Space")
        page.get_by_role("button", name="Keep what is ticked").press("Enter")
        page.wait_for_selector("#reading >> text=Kept")
        page.wait_for_selector("#list >> text=I never eat shrimp or crab.")
        assert "Call me Lou" not in words(page, "#list")
        page.click("#list >> text=shrimp or crab")
        page.wait_for_selector("text=Version 1")
        page.get_by_label("The new words").fill("I never eat crab.")
        page.get_by_label("Why, for the history").first.fill("shrimp is fine")
        page.click("text=Write the next version")
        page.wait_for_selector("text=Version 2")
        history = words(page, "ol.line")
        assert history.index("Version 2") < history.index("Version 1")
        assert "shrimp is fine" in history
        page.click("summary:has-text('Retire')")
        page.click("button:has-text('Retire it')")
        page.wait_for_selector("text=It no longer holds")
        page.goto("/values/lou")
        assert "Nothing is on record yet" in words(page, "#list")
        page.locator("#state").select_option("retired")
        page.wait_for_selector("#list >> text=I never eat crab.")


def test_what_is_close_to_what_is_there_is_told_before_it_is_kept(browser: Any, site: Site) -> None:
    with looking(browser, site, "/values/tove") as page:
        page.fill("#text", "By the end of 2030 I want Jonas to own half of the practice.")
        page.click("text=Read it")
        near = page.wait_for_selector(".reading .near")
        assert "By the end of 2028" in near.inner_text()


def test_proposals_are_decided_and_the_list_follows(browser: Any, site: Site) -> None:
    with looking(browser, site, "/values/tove") as page:
        assert "2 proposals wait" in words(page, "#proposals")
        wanted = page.locator("#proposals li", has_text="Wants short answers.")
        wanted.get_by_role("button", name="Confirm").press("Enter")
        page.wait_for_selector("#list >> text=Wants short answers.")
        assert "1 proposal waits" in words(page, "#proposals")
        page.click("#proposals button:has-text('Reject')")
        page.wait_for_selector("text=Rejected: Never flies.")
        assert "Never flies" not in words(page, "#list")


def test_a_decision_is_noted_and_shown_by_its_parts(browser: Any, site: Site) -> None:
    with looking(browser, site, "/values/ned") as page:
        page.click("summary:has-text('Note a decision')")
        for field, said in (("situation", "Two flats"), ("choice", "the small one"),
                            ("reason", "the view")):  # fmt: skip
            page.fill(f"#{field}", said)
        page.click("text=Keep it as a precedent")
        page.click("#decided a >> text=the small one")
        page.wait_for_selector("dt:has-text('Situation')")
        assert "the view" in words(page, "dl.facts")


def test_a_prompt_is_tried_while_it_is_typed_and_the_knobs_move_it(
    browser: Any, site: Site
) -> None:
    with looking(browser, site, "/try/tove") as page:
        page.keyboard.type("Which wine would you open with the dessert?", delay=5)
        page.wait_for_selector(".candidates")
        page.wait_for_selector("li.injected:has-text('I stopped drinking')")
        assert "likely to bear on this" in words(page, ".candidates")
        assert "I stopped drinking" in words(page, "#context")
        page.locator("#threshold").focus()
        page.keyboard.press("End")
        page.wait_for_selector(".strip >> text=needs 100%")
        page.wait_for_selector("li.below_threshold:has-text('I stopped drinking')")
        assert "I stopped drinking" not in words(page, "#context")
        page.uncheck("#own")
        page.wait_for_selector("li.injected:has-text('I stopped drinking')")
        page.locator("#limit").focus()
        page.keyboard.press("Home")
        page.wait_for_selector("li.over_budget:has-text('I stopped drinking')")
        page.fill("#as_of", "2001-01-01")
        page.wait_for_selector("text=was in force then")


def test_a_trial_is_recorded_by_its_button_alone(browser: Any, site: Site) -> None:
    with looking(browser, site, "/try/tove") as page:
        page.fill("#prompt", "Shall we fly to Rome?")
        page.click("text=Record this retrieval")
        page.wait_for_selector("text=Recorded as")
        page.fill("#prompt", "Shall we fly to Rome today?")
        page.wait_for_selector("text=nothing of it is recorded")
        page.fill("#prompt", "Shall we fly to Rome?")
        page.wait_for_selector("text=nothing of it is recorded")
        page.goto("/audit")
        listed = page.locator(".events li")
        count = listed.count()
        page.goto("/try/tove")
        page.fill("#prompt", "Another one")
        page.wait_for_selector(".candidates")
        page.goto("/audit")
        assert listed.count() == count


def test_a_record_is_found_replayed_questioned_and_taken_away(browser: Any, site: Site) -> None:
    with looking(browser, site, "/audit", role="auditor") as page:
        page.locator("#subject").fill("nobody")
        page.wait_for_selector("text=Nothing of this is in the ledger")
        page.locator("#subject").fill("tove")
        page.wait_for_selector(".events a")
        page.locator("#family").select_option("statements")
        page.wait_for_selector(".events >> text=Statement said")
        page.locator("#family").select_option("retrieval")
        page.wait_for_selector(".events >> text=Retrieval")
        page.locator(".events a").last.press("Enter")
        page.wait_for_selector("h1:has-text('Retrieval for tove')")
        page.click("button:has-text('Replay it')")
        page.wait_for_selector("#replay >> text=The same")
        assert page.locator("#replay pre").count() == 2
        assert page.locator("#replay td").count() >= 2
        page.locator("li.injected [name=without]").first.press("Space")
        page.click("text=Tell me")
        page.wait_for_selector("#otherwise >> text=would be left out")
        with page.expect_download() as download:
            page.click("text=Download the bundle")
        bundle = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
        assert verify_bundle(bundle, read_key(bundle["key"])).verdict == "VERIFIED"
        assert download.value.suggested_filename.startswith("ev_")


def test_the_ledger_is_verified_with_progress_and_signed(browser: Any, site: Site) -> None:
    with looking(browser, site, "/audit", role="auditor") as page:
        page.click("text=Verify the ledger")
        page.wait_for_selector("#check progress")
        page.wait_for_selector("#check >> text=It holds")
        page.click("text=Sign as it stands")
        expect(page.locator("#checkpoint")).not_to_contain_text("came since")


def test_a_prompt_dropped_into_the_map_lands_among_its_neighbours(browser: Any, site: Site) -> None:
    with looking(browser, site, "/map/tove") as page:
        points = page.locator("[data-map] a").count()
        assert points >= len(demo_data.STATEMENTS) + len(demo_data.DECISIONS)
        page.locator("[data-map]").focus()
        page.keyboard.press("ArrowRight")
        caption = words(page, "#map-caption")
        page.keyboard.press("ArrowRight")
        assert words(page, "#map-caption") != caption
        page.fill("#prompt", "Which wine goes with dessert?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".landed")
        assert page.locator(".tie.near").count() == 5
        assert "I stopped drinking" in words(page, ".neighbours")
        page.locator("[data-map]").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_url("**/statement/st_*")


def test_an_admin_makes_replaces_and_ends_keys(browser: Any, site: Site) -> None:
    with looking(browser, site, "/keys") as page:
        page.get_by_label("What it is for").fill("the shop")
        page.keyboard.press("Enter")
        page.wait_for_selector("#secret")
        first = words(page, "#secret")
        row = page.locator("tr", has=page.get_by_role("rowheader", name="the shop")).first
        row.locator("summary").press("Enter")
        row.get_by_role("button", name="Replace it").click()
        expect(page.locator("#secret")).not_to_have_text(first)
        row.locator("summary").click()
        row.get_by_role("button", name="End it now").click()
        page.wait_for_selector("text=has ended")
        assert "list" in words(page, "#usage")


def test_a_subject_is_found_and_opened(browser: Any, site: Site) -> None:
    with looking(browser, site, "/") as page:
        page.wait_for_url("**/subjects")
        page.get_by_label("Name of a subject").focus()
        page.keyboard.type("tov")
        expect(page.locator(".names a")).to_have_count(1)
        page.click(".names a")
        page.wait_for_url("**/values/tove")


def test_what_goes_wrong_is_told_in_place_and_nothing_typed_is_lost(
    browser: Any, site: Site
) -> None:
    with looking(browser, site, "/values/tove", strict=False) as page:
        page.fill("#text", "x" * 2_500)
        page.click("text=Read it")
        page.wait_for_selector("#problem >> text=2,500 characters")
        page.route("**/say/**", lambda route: route.abort())
        page.click("text=Read it")
        page.wait_for_selector("#problem >> text=The server does not answer")
        assert page.input_value("#text") == "x" * 2_500
        page.unroute("**/say/**")
        page.fill("#text", "I like to go on.")
        page.click("text=Read it")
        page.wait_for_selector("text=Read as 1 statement")
        assert words(page, "#problem") == ""


# Texts of every kind, and many of them


def test_texts_of_every_kind_stay_texts_and_in_their_place(browser: Any, site: Site) -> None:
    named = "odd%20%3Ci%3Eone%3C%2Fi%3E"
    for door in ("values", "try", "map"):
        with looking(browser, site, f"/{door}/{named}", viewport=PHONE) as page:
            if door == "try":
                page.fill("#prompt", ODD[0])
                page.wait_for_selector(".candidates")
            assert not page.locator("main b[onclick], main i").count()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], f"{door} is {wide} wide"
            if door != "map":
                hebrew = page.locator(".words", has_text="אגוזים").first
                assert hebrew.evaluate("e => getComputedStyle(e).direction") == "rtl"
                assert ODD[0] in words(page, "main")


def test_two_thousand_statements_are_paged_searched_tried_and_mapped(
    browser: Any, site: Site
) -> None:
    with looking(browser, site, "/values/many") as page:
        assert "2,000 statements" in words(page, "#list")
        rows = page.locator("#list .statements > li:not(.more)")
        assert rows.count() == 40
        page.click("text=Show more")
        expect(rows).to_have_count(80)
        page.fill("#q", "rule 1234:")
        page.wait_for_selector("text=1 of 2,000")
        expect(page.locator("#said")).to_contain_text("1 of 2,000 statements")  # and no list
        assert rows.count() == 1
        page.goto("/try/many")
        page.fill("#prompt", "subject 12")
        page.wait_for_selector("text=2,000 would be injected")
        page.locator("button:has-text('Show more')").click()
        expect(page.locator(".candidates > li:not(.more)")).to_have_count(40)
        page.goto("/map/many")
        assert page.locator("[data-map] a").count() == MANY


# What everybody gets

SCHEMES = ("light", "dark")
LOOKED_AT = ("/subjects", "/values/tove", "/try/tove", "/map/tove", "/audit", "/keys")


def _serious(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['nodes'][0]['html'][:200]} "
        f"{each['nodes'][0].get('failureSummary', '')[:300]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_axe_finds_nothing_serious(
    browser: Any, site: Site, scheme: str, size: dict[str, int]
) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs: pip install axe-playwright-python")
    how = {"color_scheme": scheme, "viewport": size}
    found: dict[str, list[str]] = {}
    with looking(browser, site, "/subjects", **how) as page:
        for path in LOOKED_AT:
            page.goto(path)
            found[path] = _serious(page)
        page.goto("/values/tove")
        page.fill("#text", "I never eat shrimp. Put the answer first.")
        page.click("text=Read it")
        page.wait_for_selector(".reading")
        found["reading"] = _serious(page)
        page.goto("/values/tove")
        page.click("#list a.words >> nth=0")
        page.wait_for_selector("#history-title")
        page.locator("details:not([open]) > summary").first.click()
        found["statement"] = _serious(page)
        page.goto("/try/tove")
        page.fill("#prompt", "Which wine goes with dessert?")
        page.wait_for_selector(".candidates")
        found["found"] = _serious(page)
        page.goto("/map/tove")
        page.fill("#prompt", "Which wine goes with dessert?")
        page.click("text=Drop")
        page.wait_for_selector(".landed")
        found["landed"] = _serious(page)
        page.goto("/audit")
        page.locator(".events a").last.click()
        page.click("button:has-text('Replay it')")
        page.wait_for_selector("#replay .note")
        page.locator("[name=without]").first.check()
        page.click("text=Tell me")
        page.wait_for_selector("#otherwise .note")
        found["evidence"] = _serious(page)
        page.goto("/keys")
        page.locator("td summary").first.click()
        found["keys"] = _serious(page)
        page.goto("/sign-in")
        found["sign-in"] = _serious(page)
    assert {path: told for path, told in found.items() if told} == {}


def test_a_page_that_is_not_there_is_designed_too(browser: Any, site: Site) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs: pip install axe-playwright-python")
    for scheme in SCHEMES:
        context = browser.new_context(base_url=site.url, color_scheme=scheme, viewport=PHONE)
        page = context.new_page()
        page.goto("/nowhere")
        assert words(page, "h1") == "Not found"
        assert _serious(page) == []
        context.close()


SHIFTS = """() => new Promise(done => {
    let sum = 0;
    new PerformanceObserver(list => list.getEntries().forEach(e => {
        if (!e.hadRecentInput) sum += e.value;
    })).observe({type: 'layout-shift', buffered: true});
    setTimeout(() => done(sum), 400);
})"""


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_first_view_is_light_and_nothing_in_it_moves(
    browser: Any, site: Site, size: dict[str, int]
) -> None:
    paths = ("/values/tove", "/values/many", "/try/tove", "/map/tove", "/audit", "/keys")
    for path in ("/sign-in", *paths):
        with looking(browser, site, "/subjects", viewport=size) as page:
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            session.send("Network.setCacheDisabled", {"cacheDisabled": True})
            sizes: list[int] = []
            session.on(
                "Network.loadingFinished",
                lambda said, to=sizes: to.append(said["encodedDataLength"]),
            )
            page.goto(path)
            moved = page.evaluate(SHIFTS)
            assert len(sizes) >= 4
            assert sum(sizes) < FIRST_VIEW, f"{path}: {sum(sizes)} bytes"
            assert moved < 0.01, f"{path} moves by {moved}"
            print(f"{path}: {sum(sizes):,} bytes, shift {moved:.4f}")  # noqa: T201


@pytest.mark.parametrize("path", LOOKED_AT)
def test_everything_is_reached_by_the_keyboard_and_seen_where_it_is(
    browser: Any, site: Site, path: str
) -> None:
    with looking(browser, site, path) as page:
        skip = page.locator("body > :first-child")
        assert words(page, "body > :first-child") == "Skip to the content"
        skip.focus()
        expect(skip).to_be_in_viewport()
        reached: set[str] = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            focus = page.locator(":focus")
            if focus.count() == 0:  # a part of a field, or the end of the page
                continue
            assert focus.evaluate("e => getComputedStyle(e).outlineStyle") in ("solid", "auto")
            reached.add(focus.evaluate("e => e.outerHTML.slice(0, 120)"))
        assert len(reached) >= 10


@pytest.mark.parametrize("path", LOOKED_AT)
def test_a_phone_never_scrolls_sideways(browser: Any, site: Site, path: str) -> None:
    with looking(browser, site, path, viewport=PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_it_works_without_javascript(browser: Any, site: Site) -> None:
    with looking(browser, site, "/try/tove", java_script_enabled=False) as page:
        page.fill("#prompt", "Which wine goes with dessert?")
        page.click("text=Look")
        assert "I stopped drinking" in words(page, "#context")
        page.click("text=Record this retrieval")
        assert "Recorded as" in words(page, "main")
        page.goto("/values/una")
        page.fill("#text", "I like plain pages.")
        page.click("text=Read it")
        page.click("text=Keep what is ticked")
        assert "I like plain pages." in words(page, "#list")
