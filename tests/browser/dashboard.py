"""Looks at the dashboard of the first of seven real nodes, n1 to n7, in a headless Chromium.

Started by tests/it/dashboard.rs. A line "do …" on the standard output is done by it to the cluster, and answered by
"done". With LASTSEEN_SCREENSHOTS=DIR the pictures of the documentation are written there.
"""

import os
import re
import sys
from importlib.resources import files
from urllib.parse import urlparse

import crowd
from playwright.sync_api import expect, sync_playwright

HOME = sys.argv[1]
PICTURES = os.environ.get("LASTSEEN_SCREENSHOTS")
WIDE = {"width": 1280, "height": 880}
NARROW = {"width": 360, "height": 800}
# For what only has to happen at all; and for the banner, which has to come within a few seconds.
AT_ALL, SOON = 30_000, 8_000
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()

# What moves without anybody's doing, and how long an update takes: with layout, and until it is painted.
WATCH = """
    window.moved = [];
    window.updates = [];
    new PerformanceObserver((list) => {
      for (const { hadRecentInput, sources } of list.getEntries()) {
        const where = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(" ");
        const parts = sources.map(({ node, previousRect, currentRect }) =>
          `${node?.textContent.slice(0, 20)}: ${where(previousRect)} -> ${where(currentRect)}`);
        if (!hadRecentInput) window.moved.push(...parts);
      }
    }).observe({ type: "layout-shift", buffered: true });
    const measure = performance.measure.bind(performance);
    performance.measure = (name, options) => {
      document.body.offsetHeight;
      const { duration } = measure(name, options);
      requestAnimationFrame(() => setTimeout(() => {
        if (!options.detail.whole) return;
        document.documentElement.dataset.updates =
          window.updates.push([duration, performance.now() - options.start]);
      }));
    };
"""


def do(order):
    print(f"do {order}", flush=True)
    assert sys.stdin.readline() == "done\n", order


class Witness:
    """What a page says on its console, and whom it asks."""

    def __init__(self, page):
        self.errors, self.foreign, self.is_away = [], [], False
        page.on("console", self.console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self.request)

    def console(self, message):
        # While the node is away the browser itself complains that it is.
        away = self.is_away and "net::ERR_" in message.text
        if message.type in ("error", "warning") and not away:
            self.errors.append(message.text)

    def request(self, request):
        asked = urlparse(request.url)
        if asked.scheme != "data" and asked.netloc != urlparse(HOME).netloc:
            self.foreign.append(request.url)


def opened(browser, **options):
    page = browser.new_context(viewport=WIDE, **options).new_page()
    page.add_init_script(WATCH)
    return page, Witness(page)


def card(page, name):
    return page.locator(".card", has=page.locator("dt", has_text=re.compile(f"^{name}$")))


def peer(page, name):
    return page.locator(f'#peers-rows tr[data-peer="{name}"]')


def is_verdict(page, name, verdict, within=AT_ALL):
    expect(peer(page, name).locator(".chip")).to_have_text(verdict, timeout=within)


def picture(page, name):
    if PICTURES:
        expect(page.locator("#strip")).to_have_class("strip good", timeout=AT_ALL)
        page.screenshot(path=f"{PICTURES}/{name}.png")


def has_no_barrier(page, where):
    """Nothing serious or critical for axe-core, contrast included."""
    page.evaluate(f"{AXE}; undefined")
    found = page.evaluate("axe.run(document)")["violations"]
    told = [f"{v['id']} ({v['impact']}): {[n['target'] for n in v['nodes'][:3]]}" for v in found]
    print(f"axe-core, {where}: {told or 'no finding'}")
    assert not [v for v in found if v["impact"] in ("serious", "critical")], (where, told)


def all_is_well(page):
    expect(page.locator("#strip-text")).to_have_text(re.compile("^live: what n1 sees, at ..:..:.. UTC$"), timeout=AT_ALL)
    expect(page.locator("#node")).to_have_text("n1")
    expect(card(page, "Quorum")).to_contain_text("7 of 7 proven, 4 needed", timeout=AT_ALL)
    expect(card(page, "Degraded").locator(".value")).to_have_text("no")
    expect(page.locator("#peers-rows tr")).to_have_count(6)
    expect(page.locator('.matrix td[data-kind="fine"]')).to_have_count(42, timeout=AT_ALL)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"first paint after {paint:.0f} ms")
    has_no_barrier(page, "all is well, light")


def words_are_those_of_the_terminal(page):
    """The pure functions of model.js, as views/*.rs has them."""
    said = page.evaluate("""async () => {
      const model = await import("/assets/model.js");
      const peer = (status, verdict, more) => ({ server_id: "web-7", status, verdict, ...more });
      const row = (peers, age_seconds = 0.4, cut = false) => ({ age_seconds, stale_seconds: 48, cut, peers });
      const cell = (status, link) => ({ status, link });
      const matrix = { edges: true, rows: {
        a: row({ b: cell("healthy", "tx_lost"), c: cell("down", "down"), d: cell("healthy", "down"), e: cell("healthy", "up") }),
        b: row({}, null), c: row({}, 0.1, true) } };
      return {
        ages: [-1, 0.34, 42.9, 119, 540, 14520, 1051200].map(model.age),
        counts: model.counts([peer("down", "down"), peer("down", "left"), peer("down", "down"), peer("suspected", "up")]),
        kinds: ["ab", "ac", "ad", "ae", "aa", "af", "ba", "ca"].map(([from, to]) => model.kind(matrix, from, to)),
        odd: model.kind(matrix, "constructor", "toString"),
        sentences: [model.sentence(matrix, "a", "b"), model.sentence(matrix, "b", "a")],
        matches: ["web dow", "ROLE=db", "left"].map((text) => model.matches(peer("down", "down", { labels: { role: "db" } }), text)),
        events: [["quorum", "true", "false"], ["status", "healthy", "down"], ["leave", null, "restart"], ["restart", null, null],
          ["service", "passing", "failed"], ["service", null, "passing"], ["service", "passing", "draining"], ["migrate", "a", null],
          ["migrate", "a", "b"], ["address", "10.0.0.1:1", "10.0.0.2:1"]]
          .map(([type, from, to]) => ({ type, from, to, verdict: null, service: "web" }))
          .map((event) => `${model.eventWords(event)}/${model.eventTone(event)}`),
        services: [[2, 0, 0], [1, 1, 0], [0, 0, 1]].map(([passing, draining, unreachable]) =>
          model.serviceLine({ name: "web", passing, draining, failed: 0, unreachable })),
        edges: [[7, "auto"], [200, "auto"], [200, "all"], [1000, "16"], [1001, "64"]]
          .map(([total_peers, observers]) => model.wantsEdges({ total_peers, observers })),
      };
    }""")
    assert said == {
        "ages": ["0.0 s", "0.3 s", "42 s", "119 s", "9 min", "4 h 2 min", "12 d 4 h"],
        "counts": "2 down, 1 suspected (1 left: no alarm)",
        "kinds": ["tx", "down", "link", "fine", "self", "none", "stale", "cut"],
        "odd": "stale",
        "sentences": ["b does not hear a; row of a: 0.4 s old", "what b hears of a is not known; row of b: 48 s, stale"],
        "matches": [True, True, False],
        "events": ["quorum lost/bad", "healthy → down/bad", "leave: restart/calm", "restart/calm",
                   "web: passing → failed/bad", "web: new → passing/good", "web: passing → draining/calm",
                   "clients of web leave a/warn", "clients of web leave a for b/warn", "10.0.0.1:1 → 10.0.0.2:1/warn"],
        "services": [{"name": "web", "text": "2/2", "tone": "good"}, {"name": "web", "text": "1/2", "tone": "warn"},
                     {"name": "web", "text": "0/1", "tone": "bad"}],
        "edges": [True, True, False, True, False],
    }, said


def a_cut_is_in_the_matrix(page):
    do("cut n3 n4 n2 n1")
    is_verdict(page, "n2", "one_way")
    expect(page.locator("#peers-rows tr").first).to_have_attribute("data-peer", "n2")
    cell = page.locator(".matrix tbody tr").nth(3).locator("td").nth(2)
    expect(cell).to_have_text(">", timeout=AT_ALL)
    # From the first cell to that of the fourth row and the third column, by keyboard alone.
    page.locator("#filter").focus()
    for _ in range(40):
        if page.evaluate("document.activeElement.matches('.matrix td')"):
            break
        page.keyboard.press("Tab")
    for key in ["ArrowDown"] * 3 + ["ArrowRight"] * 2:
        page.keyboard.press(key)
    expect(cell).to_be_focused()
    said = re.compile(r"^n4 does not hear n3; row of n4: \d\.\d s old$")
    expect(page.locator("#sentence")).to_have_text(said)
    expect(cell).to_have_attribute("aria-label", said)
    page.locator(".matrix tbody tr").nth(2).locator("td").nth(3).hover()
    expect(page.locator("#sentence")).to_have_text(re.compile(r"^n4 does not hear n3; row of n3: "))


def the_lost_are_down_without_a_reload(page):
    page.evaluate("window.same = true")
    do("kill n7")
    do("stop n6")
    is_verdict(page, "n7", "refused")
    expect(page.locator("#announce")).to_contain_text("n7 is refused: its host answers", timeout=AT_ALL)
    is_verdict(page, "n6", "down")
    expect(peer(page, "n6").locator(".why")).to_have_text(re.compile("^[0-9]+ heartbeats missed in a row "), timeout=AT_ALL)
    expect(page.locator("#timeline li", has_text="suspected → down")).not_to_have_count(0)
    expect(card(page, "Degraded")).to_contain_text("1 refused")
    expect(page.locator('.matrix td[data-kind="stale"]')).to_have_count(12, timeout=AT_ALL)
    assert page.evaluate("window.same") is True
    moved = page.evaluate("window.moved")
    print(f"moved until here: {moved or 'nothing'}")
    assert not moved


def it_looks_well(page):
    page.mouse.move(0, 0)
    page.locator(".matrix tbody tr").nth(3).locator("td").nth(2).focus()
    picture(page, "dashboard-light")
    page.emulate_media(color_scheme="dark")
    picture(page, "dashboard-dark")
    has_no_barrier(page, "with faults, dark")
    page.emulate_media(color_scheme="light")
    has_no_barrier(page, "with faults, light")
    page.locator("#theme").click()
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
    page.locator("#theme").click()
    page.set_viewport_size(NARROW)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= NARROW["width"], f"{width} pixels are wider than the screen"
    page.evaluate("scrollTo(0, 0)")
    picture(page, "dashboard-narrow")
    has_no_barrier(page, "narrow")
    page.set_viewport_size(WIDE)


def a_filter_is_in_the_address(page, browser):
    page.locator("#filter").fill("down")
    expect(page.locator("#peers-rows tr")).to_have_count(2)
    assert page.url.endswith("#q=down"), page.url
    other, witness = opened(browser)
    other.goto(page.url)
    expect(other.locator("#peers-rows tr")).to_have_count(2, timeout=AT_ALL)
    other.context.close()
    assert not witness.errors, witness.errors
    page.locator("#filter").fill("")
    page.locator("#verdicts button", has_text="one_way").click()
    expect(page.locator("#peers-rows tr")).to_have_count(1)
    expect(page.locator("#filter")).to_have_value("one_way")
    page.locator("#verdicts button", has_text="one_way").click()
    expect(page.locator("#peers-rows tr")).to_have_count(6)


def a_peer_explains_itself(page):
    peer(page, "n7").locator("button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail-headline")).to_have_text(re.compile("^n7 is REFUSED for .*: its host answers"))
    expect(page.locator("#detail-facts dt", has_text="last proof")).to_be_visible()
    expect(page.locator("#detail-facts dd").nth(2)).to_contain_text("oldest first")
    assert "peer=n7" in page.url, page.url
    has_no_barrier(page, "a peer")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    assert "peer=" not in page.url, page.url


def a_lost_quorum_is_told(page):
    do("stop n5 n4")
    expect(card(page, "Quorum").locator(".value")).to_have_text("no", timeout=AT_ALL)
    expect(page.locator("#announce")).to_contain_text("Quorum is lost.", timeout=AT_ALL)
    do("continue n5 n4")
    expect(card(page, "Quorum").locator(".value")).to_have_text("yes", timeout=AT_ALL)


def a_node_that_is_away_is_told_and_comes_back(page, witness):
    strip = page.locator("#strip")
    for away, back in [("stop n1", "continue n1"), ("kill n1", "start n1")]:
        witness.is_away = True
        do(away)
        expect(strip).to_have_class("strip bad", timeout=SOON)
        said = re.compile(r"^n1 does not answer since .*; what you see is from ..:..:.. UTC$")
        expect(page.locator("#strip-text")).to_have_text(said)
        assert page.title() == "no answer · n1", page.title()
        do(back)
        expect(strip).to_have_class("strip good", timeout=AT_ALL)
        expect(page.locator("#announce")).to_contain_text("n1 does not answer")
        witness.is_away = False
    expect(card(page, "This node")).to_contain_text("ok")
    assert page.evaluate("window.same") is True, "it came back by itself"


def many_nodes_are_smooth(browser, count):
    """The page of the real node; the answers are those of a cluster that nobody runs."""
    page, witness = opened(browser)
    turns = iter(range(10**6))
    fulfil = lambda route: route.fulfill(json=crowd.answer(urlparse(route.request.url).path, count, next(turns)))
    page.route(re.compile("/api/v1/(status|peers|matrix)"), fulfil)
    page.goto(HOME)
    expect(page.locator("#peers-count")).to_have_text(f"{count - 1}, problems first", timeout=AT_ALL)
    expect(page.locator("html")).to_have_attribute("data-updates", re.compile("^([4-9]|..+)$"), timeout=2 * AT_ALL)
    updates = page.evaluate("window.updates")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    text = ", ".join(f"{script:.0f} ({painted:.0f})" for script, painted in updates)
    print(f"{count} nodes: first paint {paint:.0f} ms; updates with layout (until painted), ms: {text}")
    expect(peer(page, crowd.SILENT["left"]).locator(".why")).to_contain_text("<img src=http://evil.example/x>")
    expect(page.locator("img")).to_have_count(0)
    expect(page.locator("#peers-rest")).to_contain_text("more are not shown, all of them up")
    expect(page.locator("#matrix-rest")).to_contain_text("rows tell nothing bad and are not shown")
    cut, heard = crowd.SILENT["cut"]
    expect(page.locator('.matrix td[data-kind="rx"]')).to_have_count(1)
    page.locator('.matrix td[data-kind="rx"]').hover()
    expect(page.locator("#sentence")).to_have_text(re.compile(f"^{cut} does not hear {heard}; row of {cut}: "))
    assert not page.evaluate("window.moved")
    assert not witness.errors and not witness.foreign, (witness.errors, witness.foreign)
    assert max(script for script, _ in updates) < 1000, updates
    if count == 200:
        has_no_barrier(page, "200 nodes")
        page.locator("#peers-more").click()
        expect(page.locator("#peers-rows tr")).to_have_count(199)
    page.context.close()


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page, witness = opened(browser, color_scheme="light")
        page.on("pageerror", lambda error: print(f"the page failed: {error}"))
        page.goto(HOME)
        all_is_well(page)
        words_are_those_of_the_terminal(page)
        a_cut_is_in_the_matrix(page)
        the_lost_are_down_without_a_reload(page)
        it_looks_well(page)
        a_filter_is_in_the_address(page, browser)
        a_peer_explains_itself(page)
        a_lost_quorum_is_told(page)
        for count in (200, 1000):
            many_nodes_are_smooth(browser, count)
        assert not witness.errors, witness.errors
        a_node_that_is_away_is_told_and_comes_back(page, witness)
        assert not witness.errors, witness.errors
        assert not witness.foreign, witness.foreign
        browser.close()


main()
