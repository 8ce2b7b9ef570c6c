"""Alert rules and dashboard, with promtool and a real Prometheus that scrapes a real daemon's figures."""

import json
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.kernel.asking import oomwatchctl
from tests.kernel.running import DEADLINE_SECONDS, Daemon, Processes, rule, wait_for_value, wait_until

CONFIG = Path(__file__).parent.parent.parent / "config"
RULES = CONFIG / "prometheus/oomwatchd.rules.yml"
DASHBOARD = CONFIG / "grafana/oomwatchd.json"

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't installed (apt: prometheus)")


def test_promtool_accepts_the_rules_and_each_alert_comes_when_it_should() -> None:
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", "oomwatchd.test.yml"]):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    """Each query of the dashboard, with what Grafana puts in for its variables."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [query.replace("$__rate_interval", "1m").replace("$instance", ".*") for query in queries]


class Prometheus:
    """A Prometheus of the test's own, on a port of this machine alone."""

    def __init__(self, directory: Path, scraped: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "test", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}],
        }
        (directory / "prometheus.yml").write_text(json.dumps(config))
        self.log = (directory / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                *("prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/tsdb"),
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self.log,
            stderr=self.log,
        )

    def query(self, expression: str) -> list[dict[str, object]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        result: list[dict[str, object]] = answer["data"]["result"]
        return result

    def has(self, expression: str) -> bool:
        try:
            return bool(self.query(expression))
        except OSError:
            return False

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_SECONDS)
        self.log.close()


@pytest.fixture
def prometheus(daemon: Daemon, processes: Processes, target: Path, tmp_path: Path) -> Iterator[Prometheus]:
    """One that scrapes what `oomwatchctl metrics` has printed, with one process pinned. To start that program for each
    scrape would take longer than a scrape may, on a busy machine."""
    daemon.start(rule(target))
    wait_for_value(processes.start(target, "1000"), 500)
    printed = oomwatchctl(daemon, "metrics").stdout.encode()

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(printed)))
            self.end_headers()
            self.wfile.write(printed)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's own output is enough."""

    server = HTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running = Prometheus(tmp_path, server.server_port)
    yield running
    running.end()
    server.shutdown()


def test_each_query_of_the_dashboard_has_an_answer(prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.has("oomwatchd_pinned_processes == 1"), "the pin is scraped")
    wait_until(lambda: prometheus.has("rate(oomwatchd_events_total[1m])"), "scraped a second time")
    unanswered = [query for query in expressions() if not prometheus.query(query)]
    # No process was killed.
    assert [query for query in unanswered if "oom_kills" not in query] == []


def test_the_dashboard_names_no_figure_that_the_daemon_does_not_have(daemon: Daemon, target: Path) -> None:
    daemon.start(rule(target))
    text = oomwatchctl(daemon, "metrics").stdout
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for query in expressions():
        for word in query.replace("{", " ").replace("(", " ").split():
            if word.startswith("oomwatchd_"):
                name = word.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count").removesuffix("_total")
                assert {word, name} & families, query
