"""Whatever stands around a kernel's report, it says the same."""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oomwatchd.oomlog.parser import Parser
from oomwatchd.oomlog.record import OomKill
from oomwatchd.oomlog.replay import replay
from oomwatchd.oomlog.shapes import Csv
from oomwatchd.oomlog.source import kills
from tests.oom_reports import ERAS, Made, made
from tests.test_oomlog import mutated

START = datetime(2026, 3, 15, 4, 7, 35, 927515)
BOOT = 195_998.443208


@dataclass(frozen=True)
class Shape:
    """`render`: the text of a log that has these lines. `time`, `host`: what is known of the first line then."""

    render: Callable[[Sequence[str]], str]
    time: str | float | None = None
    host: str | None = None


def each(prefix: Callable[[int], str], end: str = "") -> Callable[[Sequence[str]], str]:
    """One prefix a line, made of its number."""
    return lambda lines: "".join(f"{prefix(number)}{line}{end}\n" for number, line in enumerate(lines))


def stamp(number: int) -> str:
    return f"[{BOOT + number / 1e6:12.6f}] "


def at(number: int) -> datetime:
    return START + timedelta(microseconds=number)


def iso(number: int, zone: str = "+00:00") -> str:
    return at(number).isoformat() + zone


DAY = "Mar 15 04:07:35"
LOCAL = "2026-03-15T04:07:35"
PRECISE = "2026-03-15T04:07:35.927515"
UTC_PRECISE = f"{PRECISE}+00:00"


def export(lines: Sequence[str]) -> str:
    us = int(START.replace(tzinfo=UTC).timestamp() * 1e6)
    return "".join(
        f"__CURSOR=s=1;i={n}\n__REALTIME_TIMESTAMP={us + n}\n_TRANSPORT=kernel\n_HOSTNAME=h1\nPRIORITY=4\n"
        f"SYSLOG_IDENTIFIER=kernel\nMESSAGE={line}\n\n"
        for n, line in enumerate(lines)
    )


def verbose(lines: Sequence[str]) -> str:
    us = int(START.replace(tzinfo=UTC).timestamp() * 1e6)
    return "".join(
        f"Sun 2026-03-15 05:07:35.927515 CET [s=a0;i={n:x};b=b1;m=2;t={us + n:x};x=1]\n    _TRANSPORT=kernel\n"
        f"    _HOSTNAME=h1\n    PRIORITY=4\n    SYSLOG_IDENTIFIER=kernel\n    MESSAGE={line}\n"
        for n, line in enumerate(lines)
    )


def journal(lines: Sequence[str], indent: int | None) -> str:
    us = int(START.replace(tzinfo=UTC).timestamp() * 1e6)
    records = [
        {"__REALTIME_TIMESTAMP": str(us + n), "_TRANSPORT": "kernel", "_HOSTNAME": "h1", "MESSAGE": line}
        for n, line in enumerate(lines)
    ]
    return "\n".join(json.dumps(record, indent=indent) for record in records) + "\n"


def table(lines: Sequence[str], *, newest_first: bool = False) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["@timestamp", "host", "message"])
    rows = [[at(number).isoformat(" ") + "Z", "h1", line] for number, line in enumerate(lines)]
    writer.writerows(reversed(rows) if newest_first else rows)
    return out.getvalue()


def rows(
    cells: Callable[[int, str], Sequence[str]],
    delimiter: str = ",",
    header: Sequence[str] = (),
    *,
    newest: bool = False,
) -> Callable[[Sequence[str]], str]:
    """A table of which no header names the columns as is known."""

    def render(lines: Sequence[str]) -> str:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
        table = [cells(number, line) for number, line in enumerate(lines)]
        writer.writerows([*([header] if header else []), *(reversed(table) if newest else table)])
        return out.getvalue()

    return render


def wrapped(lines: Sequence[str], width: int) -> str:
    whole = [stamp(number) + line for number, line in enumerate(lines)]
    return "".join(f"{line[at : at + width]}\n" for line in whole for at in range(0, max(1, len(line)), width))


def colours(lines: Sequence[str]) -> str:
    return "".join(f"{DAY} h1 kernel: \x1b[0;1;38;5;185m{line}\x1b[0m\n" for line in lines)


def nbsp(lines: Sequence[str]) -> str:
    return each(stamp)(lines).replace("  ", "\xa0 ")


def html(lines: Sequence[str]) -> str:
    escaped = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for line in lines]
    return each(stamp, "<br>")(escaped)


def turned(prefix: Callable[[int], str]) -> Callable[[Sequence[str]], str]:
    return lambda lines: "".join(reversed(each(prefix)(lines).splitlines(keepends=True)))


def in_one_line(prefix: Callable[[int], str]) -> Callable[[Sequence[str]], str]:
    return lambda lines: " ".join(f"{prefix(number)}{line}" for number, line in enumerate(lines)) + "\n"


def syslog(number: int) -> str:
    return f"{DAY} h1 kernel: "


def newest_json(lines: Sequence[str]) -> str:
    return json.dumps(
        [{"textPayload": line, "timestamp": iso(n, "Z")} for n, line in reversed(list(enumerate(lines)))], indent=2
    )


SHAPES = {
    "bare": Shape(each(lambda n: "")),
    "dmesg": Shape(each(stamp), BOOT),
    "dmesg, Windows": Shape(each(stamp, "\r"), BOOT),
    "dmesg -T": Shape(each(lambda n: "[Sun Mar 15 04:07:35 2026] "), LOCAL),
    "dmesg -T, Polish": Shape(each(lambda n: "[wto lip 14 09:37:09 2026] "), "2026-07-14T09:37:09"),
    "dmesg -T, Croatian": Shape(each(lambda n: "[uto srp 14 09:37:09 2026] "), "2026-07-14T09:37:09"),
    "dmesg -T, Korean": Shape(each(lambda n: "[일  3월 15 04:07:35 2026] "), LOCAL),
    "dmesg -x": Shape(each(lambda n: f"kern  :warn  : {stamp(n)}"), BOOT),
    "dmesg -r": Shape(each(lambda n: f"<4>{stamp(n)}"), BOOT),
    "dmesg iso": Shape(each(lambda n: f"2026-03-15T04:07:35,{927515 + n:06}+01:00 "), f"{PRECISE}+01:00"),
    "kmsg": Shape(each(lambda n: f"4,{900 + n},{int(BOOT * 1e6) + n},-;"), BOOT),
    "talosctl": Shape(each(lambda n: f"kern: warning: [{at(n).isoformat()}123Z]: "), UTC_PRECISE),
    "talosctl, several levels": Shape(
        each(lambda n: f"kern: {('warning', '   info', '    err')[n % 3]}: [{at(n).isoformat()}123Z]: "), UTC_PRECISE
    ),
    "talosctl with node": Shape(
        each(lambda n: f"10.0.0.2: kern: warning: [{at(n).isoformat()}123Z]: "), UTC_PRECISE, "10.0.0.2"
    ),
    "syslog": Shape(each(syslog), LOCAL, "h1"),
    "syslog with stamp": Shape(each(lambda n: f"{DAY} h1 kernel: {stamp(n)}"), LOCAL, "h1"),
    "no host": Shape(each(lambda n: f"{DAY} kernel: "), LOCAL),
    "no host, stamp": Shape(each(lambda n: f"{DAY} kernel: {stamp(n)}"), LOCAL),
    "no blank behind tag": Shape(each(lambda n: f"{DAY} h1 kernel:{stamp(n)}"), LOCAL, "h1"),
    "no date": Shape(each(lambda n: f"kernel:{stamp(n)}"), BOOT),
    "metalog": Shape(each(lambda n: f"{DAY} [kernel] "), LOCAL),
    "OpenWrt": Shape(each(lambda n: f"Sun Mar 15 04:07:35 2026 kern.warn kernel: {stamp(n)}"), LOCAL),
    "busybox": Shape(each(lambda n: f"{DAY} h1 kern.warn kernel: "), LOCAL, "h1"),
    "year first": Shape(each(lambda n: f"2026 Mar 15 04:07:35 h1 kernel: {stamp(n)}"), LOCAL, "h1"),
    "day first": Shape(each(lambda n: "15 Mar 2026 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "rsyslog, precise": Shape(each(lambda n: f"{iso(n)} h1 kernel: "), UTC_PRECISE, "h1"),
    "RFC 5424": Shape(each(lambda n: f"<4>1 {iso(n)} h1 kernel - - - "), UTC_PRECISE, "h1"),
    "RFC 5424 without PRI": Shape(each(lambda n: f"{iso(n)} h1 kernel - - - "), UTC_PRECISE, "h1"),
    "RFC 5424 with data": Shape(each(lambda n: f'<4>1 {iso(n)} h1 kernel - - [m s="{n}"] '), UTC_PRECISE, "h1"),
    "short-full": Shape(each(lambda n: "Sun 2026-03-15 04:07:35 CET h1 kernel: "), LOCAL, "h1"),
    "short-full, numbered zone": Shape(
        each(lambda n: "Sun 2026-03-15 04:07:35 -03 h1 kernel: "), f"{LOCAL}-03:00", "h1"
    ),
    "short-full, no host": Shape(each(lambda n: "Sun 2026-03-15 04:07:35 UTC kernel: "), f"{LOCAL}+00:00"),
    "short-full, Japanese": Shape(each(lambda n: "日 2026-03-15 04:07:35 JST h1 kernel: "), LOCAL, "h1"),
    "short, Japanese": Shape(each(lambda n: " 3月 15 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "short, Chinese": Shape(each(lambda n: "3月 15 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "short, Russian": Shape(each(lambda n: "мар 15 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "short-monotonic": Shape(each(lambda n: f"[{BOOT + n / 1e6:.6f}] h1 kernel: "), BOOT, "h1"),
    "short-unix": Shape(each(lambda n: f"{1773547655 + (927515 + n) / 1e6:.6f} h1 kernel: "), UTC_PRECISE, "h1"),
    "export": Shape(export, UTC_PRECISE, "h1"),
    "verbose": Shape(verbose, UTC_PRECISE, "h1"),
    "json": Shape(lambda lines: journal(lines, None), UTC_PRECISE, "h1"),
    "json-pretty": Shape(lambda lines: journal(lines, 8), UTC_PRECISE, "h1"),
    "grep -H": Shape(each(lambda n: f"/var/log/kern.log.1:{DAY} h1 kernel: "), LOCAL, "h1"),
    "grep -Hn": Shape(each(lambda n: f"kern.log:{n + 998}:{DAY} h1 kernel: {stamp(n)}"), LOCAL, "h1"),
    "grep -n -C": Shape(each(lambda n: f"{n + 8}{':-'[n % 2]}{stamp(n)}"), BOOT),
    "grep -Hn, bare": Shape(each(lambda n: f"oom.txt:{n + 8}:")),
    "zgrep": Shape(each(lambda n: f"/var/log/syslog.2.gz:{DAY} h1 kernel: "), LOCAL, "h1"),
    "rg": Shape(each(lambda n: f"{n + 95}:{DAY} h1 kernel: "), LOCAL, "h1"),
    "pdsh": Shape(each(lambda n: f"web1: {stamp(n)}"), BOOT, "web1"),
    "pdsh, bare": Shape(each(lambda n: "web-01: ")),
    "cat -n": Shape(each(lambda n: f"{n + 1:6}\t{stamp(n)}"), BOOT),
    "cat -n, bare": Shape(each(lambda n: f"{n + 1:6}\t")),
    "numbered on a screen": Shape(each(lambda n: f"{n + 97:4} {stamp(n)}"), BOOT),
    "diff": Shape(each(lambda n: f"+{stamp(n)}"), BOOT),
    "diff, bare": Shape(each(lambda n: "+")),
    "mail": Shape(each(lambda n: f"> {stamp(n)}"), BOOT),
    "mail, twice": Shape(each(lambda n: f">> {DAY} h1 kernel: "), LOCAL, "h1"),
    "indented": Shape(each(lambda n: f"    {stamp(n)}"), BOOT),
    "indented by a tab": Shape(each(lambda n: f"\t{DAY} h1 kernel: "), LOCAL, "h1"),
    "Markdown table": Shape(each(lambda n: f"| {stamp(n)}", " |"), BOOT),
    "docker logs -t": Shape(each(lambda n: f"{at(n).isoformat()}123Z {stamp(n)}"), UTC_PRECISE),
    "CRI": Shape(each(lambda n: f"{at(n).isoformat()}123Z stderr F {stamp(n)}"), UTC_PRECISE),
    "kubectl --prefix": Shape(each(lambda n: f"[pod/log-x7/log] {stamp(n)}"), BOOT),
    "stern": Shape(each(lambda n: f"log-x7 log {stamp(n)}"), BOOT),
    "docker compose": Shape(each(lambda n: f"log-1  | {stamp(n)}"), BOOT),
    "aws logs tail": Shape(
        each(lambda n: f"{iso(n)} i-0ab1/messages {DAY} ip-10-0-0-1 kernel: "), UTC_PRECISE, "ip-10-0-0-1"
    ),
    "logcli": Shape(each(lambda n: f'{iso(n, "Z")} {{host="h1", job="x"}} {DAY} h1 kernel: '), UTC_PRECISE, "h1"),
    "papertrail": Shape(each(lambda n: f"{DAY} h1 kernel:  {stamp(n)}"), LOCAL, "h1"),
    "fluentd": Shape(
        lambda lines: "".join(
            f"2026-03-15 04:07:35.927515000 +0000 kernel.warn: {json.dumps({'host': 'h1', 'message': line})}\n"
            for line in lines
        ),
        f"{PRECISE}+00:00",
        "h1",
    ),
    "vmware.log": Shape(each(lambda n: f"{iso(n, 'Z')[:23]}Z| vcpu-0| I005: Guest: {stamp(n)}")),
    "vmware.log, new": Shape(each(lambda n: f"{at(n).isoformat()}Z In(05) vcpu-0 - Guest: {stamp(n)}"), UTC_PRECISE),
    "logcat": Shape(each(lambda n: "03-15 04:07:35.927     0     0 W "), f"{LOCAL}.927000"),
    "console server": Shape(each(lambda n: f"[2026-03-15 04:07:35] {stamp(n)}"), LOCAL),
    "unknown": Shape(each(lambda n: "node7|kern|")),
    "unknown with number": Shape(each(lambda n: f"#{n} (k) => ")),
    "CSV": Shape(table, UTC_PRECISE, "h1"),
    "CSV without header": Shape(each(lambda n: f'{iso(n)},"{DAY} h1 kernel: {stamp(n)}', '"'), UTC_PRECISE, "h1"),
    "CSV, no header, writers": Shape(rows(lambda n, line: (iso(n), "h1", "kernel", line)), UTC_PRECISE),
    "CSV, no header, stamps": Shape(rows(lambda n, line: (iso(n), f"h{n % 2}", stamp(n) + line)), UTC_PRECISE),
    "CSV, no header, newest first": Shape(
        rows(lambda n, line: ("7", "h1", line, f"{1773547655927515 + n}"), newest=True), UTC_PRECISE
    ),
    "semicolons, no header": Shape(rows(lambda n, line: (f"{syslog(n)}{line}", iso(n)), ";"), UTC_PRECISE, "h1"),
    "TSV, no header": Shape(rows(lambda n, line: (iso(n), "h1", f"kernel: {line}"), "\t"), UTC_PRECISE),
    "CSV, another name": Shape(
        rows(lambda n, line: (iso(n), f"<4>{syslog(n)}{line}"), header=("Start", "Raw Event")), UTC_PRECISE, "h1"
    ),
    "CSV, names in parts": Shape(
        rows(lambda n, line: (line, "x", iso(n)), header=("jsonPayload.message", "a", "timestamp")), UTC_PRECISE
    ),
    "Grafana, newest first": Shape(
        lambda lines: (
            'Common labels: {"host":"h1"}\nLine limit: "1000 (15 returned)"\nTotal bytes processed: "10 MB"\n\n\n'
            + rows(lambda n, line: (f"{1773547655927515000 + n}", iso(n, "Z"), line), "\t", newest=True)(lines)
        ),
        UTC_PRECISE,
    ),
    "logcli, newest first": Shape(
        turned(lambda n: '2026-03-15T04:07:35+01:00 {host="h1", job="kernel"} '), f"{LOCAL}+01:00"
    ),
    "all in one line": Shape(in_one_line(stamp), BOOT),
    "all in one line, syslog": Shape(in_one_line(syslog), LOCAL, "h1"),
    "all in one line, syslog with stamp": Shape(in_one_line(lambda n: f"{syslog(n)}{stamp(n)}"), LOCAL, "h1"),
    "all in one line, dmesg -T": Shape(in_one_line(lambda n: "[Sun Mar 15 04:07:35 2026] "), LOCAL),
    "all in one line, precise": Shape(in_one_line(lambda n: f"{iso(n)} h1 kernel: "), UTC_PRECISE, "h1"),
    "wrapped at 80": Shape(lambda lines: wrapped(lines, 80), BOOT),
    "wrapped at 132": Shape(lambda lines: wrapped(lines, 132), BOOT),
    "colours": Shape(colours, LOCAL, "h1"),
    "no-break spaces": Shape(nbsp, BOOT),
    "HTML": Shape(html, BOOT),
    "newest first, syslog": Shape(turned(syslog), LOCAL, "h1"),
    "newest first, dmesg": Shape(turned(stamp), BOOT),
    "newest first, precise": Shape(turned(lambda n: f"{iso(n)} h1 kernel: "), UTC_PRECISE, "h1"),
    "newest first, CSV": Shape(lambda lines: table(lines, newest_first=True), UTC_PRECISE, "h1"),
    "newest first, JSON": Shape(newest_json, UTC_PRECISE),
    "dmesg -H": Shape(each(lambda n: "[Mar15 04:07] " if n == 0 else f"[  +{n / 1e6:.6f}] "), "2026-03-15T04:07:00"),
    "dmesg with caller": Shape(each(lambda n: f"{stamp(n)[:-1]}[ T4311] "), BOOT),
    "syslog with caller": Shape(each(lambda n: f"{DAY} h1 kernel: {stamp(n)}[ T4311] "), LOCAL, "h1"),
    "netconsole by syslog": Shape(each(lambda n: f"{DAY} 10.0.0.5 {stamp(n)}"), LOCAL),
    "a syslog server's date": Shape(each(lambda n: f"{iso(n)} 10.0.0.1 <4>{DAY} h1 kernel: "), UTC_PRECISE, "h1"),
    "Cisco": Shape(each(lambda n: f"{DAY}.927: h1 kernel: "), f"{LOCAL}.927000", "h1"),
    "BSD": Shape(each(lambda n: "Mar 15 2026 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "American": Shape(each(lambda n: "03/15/2026 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "dotted": Shape(each(lambda n: "15.03.2026 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "Korean date": Shape(each(lambda n: "2026. 03. 15. (일) 04:07:35 KST h1 kernel: "), LOCAL, "h1"),
    "Chinese date": Shape(each(lambda n: "2026年03月15日 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "compact date": Shape(each(lambda n: "20260315T040735Z h1 kernel: "), f"{LOCAL}+00:00", "h1"),
    "Vietnamese": Shape(each(lambda n: "Thg 3 15 04:07:35 h1 kernel: "), LOCAL, "h1"),
    "numbered list": Shape(each(lambda n: f"{n + 1}. {stamp(n)}"), BOOT),
    "a level": Shape(each(lambda n: f"{iso(n)} WARN kernel: {stamp(n)}"), UTC_PRECISE),
    "padded": Shape(each(stamp, "   "), BOOT),
    "Jira": Shape(lambda lines: f"{{noformat}}{each(stamp)(lines)}{{noformat}}\n", BOOT),
    "HTML paragraphs": Shape(each(lambda n: f"<p>{stamp(n)}", "</p>"), BOOT),
    "tabs": Shape(each(lambda n: f"{iso(n)}\th1\tkernel\t"), UTC_PRECISE),
    "BOM": Shape(lambda lines: "\ufeff" + each(stamp)(lines), BOOT),
}


def read(text: str, folder: Path) -> list[OomKill]:
    log = folder / "log"
    log.write_text(text)
    failures: list[Exception] = []
    found = list(kills([str(log)], failures.append))
    assert not failures
    return found


def told(kill: OomKill) -> dict[str, object]:
    victim = kill.victim
    assert victim is not None
    return {
        "killer": kill.killer,
        "invoker": (kill.invoker.comm, kill.invoker.pid, kill.invoker.gfp_mask, kill.invoker.order),
        "kernel": kill.kernel,
        "memcg": kill.memcg,
        "scope": kill.scope,
        "rows": None
        if kill.tasks is None
        else [(row.pid, row.uid, row.total_vm, row.rss, row.oom_score_adj, row.comm) for row in kill.tasks],
        "victim": (victim.pid, victim.comm, victim.anon_rss_kb),
        "truncated": kill.truncated,
    }


def truth(report: Made) -> dict[str, object]:
    true = report.truth
    rows = true.rows
    return {
        "killer": "kernel",
        "invoker": (true.invoker, true.invoker_pid, true.gfp_mask, true.order),
        "kernel": true.kernel,
        "memcg": true.memcg,
        "scope": "global" if true.memcg is None else "memcg",
        "rows": None
        if rows is None
        else [(row.pid, row.uid, row.total_vm, row.rss, row.adj, row.comm) for row in rows],
        "victim": (true.victim.pid, true.victim.comm, true.anon_rss_kb),
        "truncated": true.invoker_pid is None,
    }


def check_eras(style: str, shape: Shape, eras: Sequence[str], folder: Path) -> None:
    """A log with one report, and one with two, of kernels of different eras; of others for each style."""
    rng = random.Random(style)
    one, *others = rng.sample(eras, 3)
    for some in ((one,), others):
        reports = [made(era, rng, memcg=rng.random() < 0.5) for era in some]
        found = read(shape.render([line for report in reports for line in report.lines]), folder)
        assert [told(kill) for kill in found] == [truth(report) for report in reports], some
        if shape.time is not None:
            assert found[0].time == shape.time, some
        assert found[0].host == shape.host, some


@pytest.mark.parametrize("style", SHAPES)
def test_every_shape_of_different_eras(style: str, tmp_path: Path) -> None:
    check_eras(style, SHAPES[style], ERAS, tmp_path)


KILL = (
    "Memory cgroup out of memory: Killed process 6090 (node) total-vm:1124kB, anon-rss:496kB, file-rss:36kB, "
    "shmem-rss:0kB, UID:1001 pgtables:29kB oom_score_adj:968"
)
FOREIGN = {
    "syslog": f"{DAY} h1 problem-detector[811]: {KILL}",
    "syslog, no PID": f"{DAY} h1 mallory: {KILL}",
    "no host": f"{DAY} mallory: {KILL}",
    "no host, PID": f"{DAY} problem-detector[811]: {KILL}",
    "names the kernel": f"{DAY} h1 mallory: kernel: {KILL}",
    "names the kernel, no host": f"{DAY} mallory: kernel: {KILL}",
    "shows a stamp": f"{DAY} h1 mallory[7]: [    1.000000] {KILL}",
    "facility": f"Sun Mar 15 04:07:35 2026 user.notice kernel: {KILL}",
    "facility, busybox": f"{DAY} h1 user.notice kernel: {KILL}",
    "dmesg -x": f"user  :notice: [    1.000000] {KILL}",
    "dmesg -r": f"<13>[    1.000000] {KILL}",
    "kmsg": f"12,5,1000000,-;{KILL}",
    "PRI": f"<13>1 2026-03-15T04:07:35Z h1 kernel - - - {KILL}",
    "RFC 5424": f"<14>1 2026-03-15T04:07:35Z h1 mallory 7 - - {KILL}",
    "RFC 5424 without PRI": f"2026-03-15T04:07:35Z h1 mallory 7 - - {KILL}",
    "written to /dev/kmsg": f"[    1.000000] mallory[7]: {KILL}",
    "precise": f"2026-03-15T04:07:35.927515+00:00 h1 mallory[7]: {KILL}",
    "metalog": f"{DAY} [mallory] {KILL}",
    "Cisco, another program": f"{DAY} h1 mallory: %KERN-3-SYSTEM_MSG: {KILL} - kernel",
    "a level, another program": f"{DAY} h1 warning mallory: : {KILL}",
    "metalog, names the kernel": f"{DAY} [mallory] kernel: {KILL}",
    "grep": f"/var/log/syslog:{DAY} h1 mallory[7]: {KILL}",
    "logcat": f"03-15 04:07:35.927   812   812 W lmkd: {KILL}",
    "klog": f"I0315 04:07:35.123456  811 monitor.go:160] New status: {KILL}",
    "logfmt": f'time="2026-03-15T04:07:35Z" level=warning msg="{KILL}"',
    "application": f"2026-03-15 04:07:35,123 WARN [main] {KILL}",
    "logging": f"2026-03-15 04:07:35,123 - watcher - ERROR - found: {KILL}",
    "logging, with bars": f"2026-03-15 04:07:35.123 | ERROR    | a:b:1 - {KILL}",
    "a place in the source": f"2026/03/15 04:07:35 main.go:12: {KILL}",
    "a web server": f"[Sun Mar 15 04:07:35.927515 2026] [error] [pid 12] a.c(1): {KILL}",
    "a container's error": f"2026-03-15T04:07:35.123456789Z stderr F ERROR: {KILL}",
    "JSON, a process": json.dumps({"@timestamp": "2026-03-15T04:07:35Z", "process": {"name": "a"}, "message": KILL}),
    "JSON, a logger": json.dumps({"time": "2026-03-15T04:07:35Z", "logger_name": "a.b", "message": KILL}),
    "CSV, no header": "".join(
        f'{iso(n)},h1,{program},"{text}"\n'
        for n, (program, text) in enumerate([("kernel", "a"), ("mallory", KILL), ("kernel", "memory: usage 4kB, b")])
    ),
    "export": f"__REALTIME_TIMESTAMP=1742011655927515\n_TRANSPORT=stdout\nSYSLOG_IDENTIFIER=x\nMESSAGE={KILL}\n\n",
    "export, named like it": (
        f"__REALTIME_TIMESTAMP=1742011655927515\n_TRANSPORT=syslog\nSYSLOG_IDENTIFIER=kernel\nMESSAGE={KILL}\n\n"
    ),
    "verbose": (
        "Sun 2026-03-15 05:07:35.927515 CET [s=a0;i=1;b=b1;m=2;t=64d0;x=1]\n    _TRANSPORT=syslog\n"
        f"    SYSLOG_IDENTIFIER=kernel\n    MESSAGE={KILL}\n"
    ),
    "written to /dev/kmsg, no PID": f"[    1.000000] mallory: {KILL}",
    "json-pretty": json.dumps(
        {"__REALTIME_TIMESTAMP": "1742011655927515", "_TRANSPORT": "stdout", "MESSAGE": KILL}, indent=2
    ),
    "CSV": f'time,program,message\n2026-03-15 04:07:35,mallory,"{KILL}"\n',
}  # fmt: skip


@pytest.mark.parametrize("style", FOREIGN)
def test_other_programs_lines_are_no_kills(style: str, tmp_path: Path) -> None:
    assert not read(FOREIGN[style] + "\n", tmp_path)
    assert read(f"{DAY} h1 kernel: {KILL}\n", tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_logs_of_every_shape_raise_nothing(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for style in rng.sample(sorted(SHAPES), 25):
        reports = [made(rng.choice(ERAS), rng, memcg=rng.random() < 0.5) for _ in range(2)]
        text = SHAPES[style].render([line for report in reports for line in report.lines])
        for _ in range(3):
            text = mutated(text, rng)
        (tmp_path / "log").write_text(text)
        for kill in kills([str(tmp_path / "log")], lambda error: None):
            replay(kill)


REPEATED = (
    *("> ", f"{DAY} ", "[1.0] ", '"', "{", "kernel: ", "[", "<br>", "\xa0", "\x1b[", "3月 15 ", "a:b:", "|", "\\x1b"),
    *(" invoked oom-killer: ", "Killed process 1 (", "CPU: 1 PID: 2 Comm: ", ",oom_memcg=/a,task_memcg=", "[ 1] 1 1 "),
)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("piece", REPEATED)
def test_the_effort_grows_with_the_length_alone(piece: str) -> None:
    """Were it a power of the length, this would take half a minute and more: four lines of 30,000 characters."""
    parser = Parser(datetime(2026, 12, 31))
    line = piece * (30_000 // len(piece))
    for _ in range(2):
        parser.feed(line)
        parser.feed(f"{line} invoked oom-killer: gfp_mask=0x1")
    parser.flush()


@pytest.mark.usefixtures("deadline")
def test_a_quotation_mark_without_another_takes_no_longer() -> None:
    """This took 17 s: the marks before each line were counted again, up to 64 KiB of them."""
    table = Csv(",", {"time": 0, "text": 1})
    table.feed("time,message")
    for _ in range(12):
        table.feed('1,"a')
        for _ in range(65_600):
            table.feed("")
    assert table.flush() == ()
