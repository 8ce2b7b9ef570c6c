"""Logs that went through mails, pages, chats, consoles and phones on their way say what the kernel said."""

import base64
import email.mime.multipart
import email.mime.text
import html
import json
import quopri
import random
import re
import textwrap
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from oomwatchd.oomlog.parser import Parser
from tests.oom_reports import made
from tests.test_oomlog_shapes import (
    BOOT,
    DAY,
    LOCAL,
    START,
    UTC_PRECISE,
    Shape,
    at,
    check_eras,
    each,
    iso,
    read,
    stamp,
    told,
    truth,
)

ERAS = ("2.6.18", "2.6.32", "4.4", "5.4", "6.11")
US = int(START.replace(tzinfo=UTC).timestamp() * 1e6)
RECORD = {"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "_HOSTNAME": "h1"}


def stamped(lines: Sequence[str], end: str = "\n") -> str:
    return "".join(f"{stamp(number)}{line}{end}" for number, line in enumerate(lines))


def around(before: str, behind: str) -> Callable[[Sequence[str]], str]:
    return lambda lines: f"{before}{stamped(lines)}{behind}"


def changed(change: Callable[[str], str], prefix: Callable[[int], str] = stamp) -> Callable[[Sequence[str]], str]:
    return lambda lines: "".join(f"{change(prefix(number) + line)}\n" for number, line in enumerate(lines))


def records(member: Callable[[int, str], object], *, reverse: bool = False) -> Callable[[Sequence[str]], str]:
    """JSON, one value a line."""

    def render(lines: Sequence[str]) -> str:
        rows = [json.dumps(member(number, line)) for number, line in enumerate(lines)]
        return "\n".join(reversed(rows) if reverse else rows) + "\n"

    return render


def document(member: Callable[[int, str], object], wrap: Callable[[list[object]], object]) -> Callable[..., str]:
    return lambda lines: json.dumps(wrap([member(number, line) for number, line in enumerate(lines)]), indent=2)


def mail(encode: Callable[[bytes], bytes], name: str) -> Callable[[Sequence[str]], str]:
    head = (
        "Return-Path: <a@example.com>\nDate: Sun, 15 Mar 2026 05:00:00 +0100\nSubject: oom\nMIME-Version: 1.0\n"
        f'Content-Type: text/plain; charset="utf-8"\nContent-Transfer-Encoding: {name}\n\n'
    )
    return lambda lines: head + encode(stamped(lines).encode()).decode()


def multipart(lines: Sequence[str]) -> str:
    whole = email.mime.multipart.MIMEMultipart()
    whole["From"] = "a@example.com"
    whole.attach(email.mime.text.MIMEText("Look at this, please.\n"))
    log = email.mime.text.MIMEText(stamped(lines), "plain", "utf-8")
    log.add_header("Content-Disposition", "attachment", filename="dmesg.txt")
    whole.attach(log)
    return str(whole)


def wrapped(width: int, mark: str = "", prefix: Callable[[int], str] = stamp) -> Callable[[Sequence[str]], str]:
    def wrap(line: str) -> str:
        parts = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        return "\n".join(f"{mark}{part}" for part in parts)

    return changed(wrap, prefix)


def verbose(lines: Sequence[str]) -> str:
    return "".join(
        f"Sun 2026-03-15 04:07:35.927515 UTC [s=a0;i={n:x};b=b1;m=2;t={US + n:x};x=1]\n    \x1b[0;1m_TRANSPORT\x1b[0m="
        f"kernel\n    SYSLOG_IDENTIFIER=kernel\n    \x1b[0;1;38;5;185mMESSAGE={line}\x1b[0m\n"
        for n, line in enumerate(lines)
    )


def relative(lines: Sequence[str]) -> str:
    """`dmesg --time-format reltime`: a date where the minute changes."""
    return "".join(
        f"{'[  +0.000001] ' if number % 30 else '[Mar15 04:07] '}{line}\n" for number, line in enumerate(lines)
    )


def syslog(number: int) -> str:
    return f"{DAY} h1 kernel: "


def two_bold_lines(lines: Sequence[str]) -> str:
    *others, before, last = (f"{syslog(number)}{line}" for number, line in enumerate(lines))
    return "\n".join((*others, f"**{before}", f"{last}**", ""))


def gcloud(lines: Sequence[str]) -> str:
    """`gcloud logging read`: newest first; a long text goes on in further lines."""
    records = []
    for number, line in enumerate(lines):
        text = re.sub(r"(?<=\S) (?=\S)", "\n    ", line.replace("'", "''"), count=3) if len(line) > 60 else line
        records.append(
            f"---\ninsertId: x{number}\njsonPayload:\n  MESSAGE: '{text}'\n  _HOSTNAME: h1\n  _TRANSPORT: kernel\n"
            f"logName: projects/p/logs/kernel\nresource:\n  type: k8s_node\ntimestamp: '{iso(number, 'Z')}'\n"
        )
    return "".join(reversed(records))


def events_in_yaml(lines: Sequence[str]) -> str:
    """`kubectl get events -o yaml`."""
    end = "  source:\n    component: kernel-monitor\n    host: h1\n"
    events = [
        f'- kind: Event\n  lastTimestamp: "{iso(number, "Z")}"\n  message: |-\n    {line}\n{end}'
        for number, line in enumerate(lines)
    ]
    return f"apiVersion: v1\nitems:\n{''.join(events)}kind: List\n"


def cri_parts(lines: Sequence[str], size: int) -> str:
    """The kubelet splits a line that is longer than its runtime writes at once."""
    out = []
    for number, line in enumerate(lines):
        text = stamp(number) + line
        starts = range(0, len(text), size)
        for start in starts:
            tag = "F" if start == starts[-1] else "P"
            out.append(f"{at(number).isoformat()}123Z stderr {tag} {text[start : start + size]}\n")
    return "".join(out)


def docker_parts(lines: Sequence[str], size: int) -> str:
    out = []
    for number, line in enumerate(lines):
        text = f"{stamp(number)}{line}\n"
        for start in range(0, len(text), size):
            record = {"log": text[start : start + size], "stream": "stderr", "time": f"{at(number).isoformat()}123Z"}
            out.append(json.dumps(record) + "\n")
    return "".join(out)


def framed(lines: Sequence[str], end: str) -> str:
    """RFC 6587: each message behind its length."""
    messages = [f"<4>1 {iso(number)} h1 kernel - - - {line}{end}" for number, line in enumerate(lines)]
    return "".join(f"{len(message)} {message}" for message in messages)


SHAPES = {
    # Containers and log servers.
    "CRI, in parts": Shape(lambda lines: cri_parts(lines, 40), UTC_PRECISE),
    "CRI, in small parts": Shape(lambda lines: cri_parts(lines, 16), UTC_PRECISE),
    "docker json-file": Shape(lambda lines: docker_parts(lines, 5000), UTC_PRECISE),
    "docker json-file, in parts": Shape(lambda lines: docker_parts(lines, 60), UTC_PRECISE),
    "RFC 5425": Shape(lambda lines: framed(lines, ""), UTC_PRECISE, "h1"),
    "RFC 6587, with line feeds": Shape(lambda lines: framed(lines, "\n"), UTC_PRECISE, "h1"),
    "json-sse": Shape(
        lambda lines: "".join(f"data: {json.dumps({**RECORD, 'MESSAGE': line})}\n\n" for line in lines), host="h1"
    ),
    "json-seq": Shape(
        lambda lines: "".join(f"\x1e{json.dumps({**RECORD, 'MESSAGE': line})}\n" for line in lines), host="h1"
    ),
    "dmesg -xT": Shape(each(lambda n: "kern  :warn  : [Sun Mar 15 04:07:35 2026] "), "2026-03-15T04:07:35"),
    "dmesg -x, ISO": Shape(
        each(lambda n: f"kern  :warn  : {iso(n, '+01:00').replace('.', ',')} "), "2026-03-15T04:07:35.927515+01:00"
    ),
    # Phones, consoles, captures.
    "MediaTek": Shape(each(lambda n: f"<4>{stamp(n)[:-1]}  (2)[4311:java]"), BOOT),
    "MediaTek, level behind": Shape(each(lambda n: f"{stamp(n)[:-1]}<2> (2)[4311:java]"), BOOT),
    "Samsung": Shape(each(lambda n: f"<4>{stamp(n)} [2:           java: 4311] "), BOOT),
    "Samsung, level": Shape(each(lambda n: f"{stamp(n)}I[2:           java: 4311] "), BOOT),
    "Samsung, television": Shape(each(lambda n: f"[{n % 4}-{3219 + n / 1e4:.4f}] "), 3219.0),
    "Samsung, television, blank lines": Shape(each(lambda n: f"[2-{3219 + n / 1e4:.4f}] ", "\n"), 3219.0),
    "caller with CPU": Shape(each(lambda n: f"{stamp(n)[:-1]}[T4311@CPU1] "), BOOT),
    "F5": Shape(each(lambda n: f"{DAY} h1 warning kernel: : "), LOCAL, "h1"),
    "Cisco NX-OS": Shape(each(lambda n: f"2026 {DAY} h1 %KERN-3-SYSTEM_MSG: {stamp(n)}", " - kernel"), LOCAL, "h1"),
    "Cisco IOS": Shape(each(lambda n: f"*{DAY}.927: %KERN-3-SYSTEM_MSG: ", " - kernel"), f"{LOCAL}.927000"),
    "strings of a program": Shape(each(lambda n: f"'{stamp(n)}", "\\n',"), BOOT),
    "half days": Shape(each(lambda n: "Mar 15, 2026 4:07:35 PM h1 kernel: "), "2026-03-15T16:07:35", "h1"),
    "half days, midnight": Shape(each(lambda n: "Mar 15, 2026 12:07:35 AM h1 kernel: "), "2026-03-15T00:07:35", "h1"),
    "logcat -v brief": Shape(each(lambda n: "W/kernel  (    0): ")),
    "logcat -v time": Shape(each(lambda n: "03-15 04:07:35.927 W/kernel  (    0): "), f"{LOCAL}.927000"),
    "netconsole with release": Shape(each(lambda n: f"6.8.0-45-generic,4,{n},{int(BOOT * 1e6) + n},-;"), BOOT),
    "kmsg with dictionaries": Shape(
        lambda lines: "".join(
            f"4,{n},{int(BOOT * 1e6) + n},-;{line}\n SUBSYSTEM=mm\n DEVICE=+x\n" for n, line in enumerate(lines)
        ),
        BOOT,
    ),
    "dmesg -d": Shape(each(lambda n: f"{stamp(n)[:-2]} <    0.000001>] "), BOOT),
    "short-delta": Shape(
        each(lambda n: f"{stamp(n)[:-2]}{' <    0.000001 >' if n else '                '}] h1 kernel: "), BOOT, "h1"
    ),
    "dmesg, relative": Shape(relative, "2026-03-15T04:07:00"),
    "line feeds are CR": Shape(lambda lines: stamped(lines, "\r"), BOOT),
    "line feeds are Unicode's": Shape(lambda lines: stamped(lines, "\u2028"), BOOT),
    "bracketed paste": Shape(each(lambda n: f"\x1b[?2004l{stamp(n)}"), BOOT),
    "ESC shown": Shape(each(lambda n: f"^[[32m{stamp(n)}^[[0m"), BOOT),
    "ESC lost": Shape(each(lambda n: f"[32m{stamp(n)}[0m"), BOOT),
    "verbose, coloured": Shape(verbose, UTC_PRECISE),
    "NULs before": Shape(lambda lines: "\0" * 5000 + each(syslog)(lines), LOCAL, "h1"),
    "more NULs than a line": Shape(
        lambda lines: f"{DAY} h1 kernel: a\n" + "\0" * 300_000 + each(syslog)(lines), LOCAL, "h1"
    ),
    "NULs at the ends": Shape(each(syslog, "\0"), LOCAL, "h1"),
    # Log servers.
    "facility before the host": Shape(each(lambda n: f"{DAY} kern.warn h1 kernel: "), LOCAL, "h1"),
    "facility in brackets": Shape(each(lambda n: f"{DAY} h1 [kern.warning] kernel: "), LOCAL, "h1"),
    "IPv6": Shape(each(lambda n: f"{DAY} 2001:db8::1 kernel: {stamp(n)}"), LOCAL, "2001:db8::1"),
    "IPv4 in IPv6": Shape(each(lambda n: f"{DAY} ::ffff:10.0.0.5 kernel: "), LOCAL, "::ffff:10.0.0.5"),
    # JSON.
    "journal, newest first": Shape(
        records(lambda n, line: {"__REALTIME_TIMESTAMP": str(US + n), "MESSAGE": line, **RECORD}, reverse=True),
        UTC_PRECISE,
        "h1",
    ),
    "JSON in a runtime's JSON": Shape(
        records(
            lambda n, line: {
                "log": json.dumps({"__REALTIME_TIMESTAMP": str(US + n), "MESSAGE": line, **RECORD}) + "\n",
                "time": iso(n, "Z"),
            }
        ),
        UTC_PRECISE,
        "h1",
    ),
    "Loki": Shape(
        document(
            lambda n, line: [str((US + n) * 1000), f"{DAY} h1 kernel: {line}"],
            lambda rows: {"data": {"result": [{"stream": {"host": "h1"}, "values": rows}]}},
        ),
        UTC_PRECISE,
        "h1",
    ),
    "lists of one": Shape(
        document(
            lambda n, line: {"fields": {"@timestamp": [iso(n, "Z")], "host.name": ["h1"], "message": [line]}},
            lambda rows: {"hits": {"hits": rows}},
        ),
        UTC_PRECISE,
        "h1",
    ),
    "members as a list": Shape(
        document(
            lambda n, line: [
                {"field": "@timestamp", "value": at(n).isoformat(" ") + "Z"},
                {"field": "@message", "value": f"{DAY} h1 kernel: {line}"},
            ],
            lambda rows: {"results": rows},
        ),
        UTC_PRECISE,
        "h1",
    ),
    "attributes of a resource": Shape(
        document(
            lambda n, line: {"timeUnixNano": str((US + n) * 1000), "body": {"stringValue": line}},
            lambda rows: {
                "resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "h1"}}]},
                "logRecords": rows,
            },
        ),
        UTC_PRECISE,
        "h1",
    ),
    "source is the host": Shape(
        document(
            lambda n, line: {
                "message": {
                    "message": f"h1 kernel: {line}",
                    "source": "h1",
                    "timestamp": iso(n, "Z"),
                    "facility": "kernel",
                }
            },
            lambda rows: {"messages": rows},
        ),
        UTC_PRECISE,
        "h1",
    ),
    "capital names": Shape(
        document(
            lambda n, line: {
                "TimeGenerated": iso(n, "Z"),
                "Computer": "h1",
                "Facility": "kern",
                "ProcessName": "kernel",
                "SyslogMessage": line,
            },
            lambda rows: rows,
        ),
        UTC_PRECISE,
        "h1",
    ),
    "dates with weekdays": Shape(
        document(
            lambda n, line: {"pri": 4, "time": "Sun Mar 15 04:07:35 2026", "msg": line}, lambda rows: {"dmesg": rows}
        ),
        LOCAL,
    ),
    "a console's own time": Shape(
        lambda lines: json.dumps({"Timestamp": "2026-03-15T05:00:00Z", "Output": stamped(lines, "\r\n")}), BOOT
    ),
    "base64": Shape(lambda lines: base64.encodebytes(stamped(lines).encode()).decode(), BOOT),
    "an instance's name first": Shape(around("i-0abc\t", "\t2026-03-15T05:00:00+00:00\n"), BOOT),
    # Quoted: the text ends with the quotation mark.
    "YAML": Shape(
        changed(lambda line: f"---\ntextPayload: '{line}'\ntimestamp: '2026-03-15T04:07:35Z'"), f"{LOCAL}+00:00"
    ),
    "YAML, journal": Shape(gcloud, UTC_PRECISE, "h1"),
    "YAML, a list": Shape(events_in_yaml, UTC_PRECISE, "h1"),
    "quoted columns": Shape(each(lambda n: f'"{LOCAL}","h1","kernel","', '"'), LOCAL),
    "printed records": Shape(
        each(lambda n: f'[{n}] kmsg.0: [[{1773547655 + n / 1e6:.9f}, {{}}], {{"sequence": {n}, "msg": "', '"}]')
    ),
    "backticks": Shape(changed(lambda line: f"`{line}`  "), BOOT),
    "one string": Shape(lambda lines: json.dumps(stamped(lines)) + "\n", BOOT),
    "escaped line feeds": Shape(lambda lines: stamped(lines, "\\n") + "\n", BOOT),
    "rsyslog's escapes": Shape(lambda lines: f"{DAY} h1 kernel: " + "#012".join(lines) + "\n", LOCAL, "h1"),
    # Pages, forums, documents.
    "page in one line": Shape(lambda lines: "<pre>" + html.escape(stamped(lines, "\0")).replace("\0", "<br>"), BOOT),
    "page": Shape(lambda lines: f"<html><body>\n<pre><code>{html.escape(stamped(lines))}</code></pre></body>\n", BOOT),
    "numeric entities": Shape(
        changed(lambda line: html.escape(line).replace("[", "&#91;").replace("]", "&#93;") + "<br />"), BOOT
    ),
    "cells": Shape(changed(lambda line: f'<tr><td class="n">7</td><td>{html.escape(line)}</td></tr>'), BOOT),
    "BBCode": Shape(around("[QUOTE=bob;1][CODE]", "[/CODE][/QUOTE]\n"), BOOT),
    "Markdown, bold": Shape(changed(lambda line: f"**{line}**"), BOOT),
    "Markdown, two bold lines": Shape(two_bold_lines, LOCAL, "h1"),
    "a terminal's frame": Shape(changed(lambda line: f"\u2502 {line:<160} \u2502"), BOOT),
    "half of a terminal": Shape(changed(lambda line: f"{line:<180}\u2502"), BOOT),
    "host taken out": Shape(each(lambda n: f"{DAY} [redacted] kernel: "), LOCAL),
    "host elided": Shape(each(lambda n: f"{DAY} ... kernel: "), LOCAL),
    "host's place": Shape(each(lambda n: f"{DAY} <hostname> kernel: "), LOCAL),
    "curly quotes": Shape(around("\u201c", "\u201d\n"), BOOT),
    "Markdown, escaped": Shape(changed(lambda line: re.sub(r"([_\[\]])", r"\\\1", line)), BOOT),
    "Markdown, hard breaks": Shape(changed(lambda line: f"{line}\\"), BOOT),
    "ligatures": Shape(changed(lambda line: line.replace("fi", "\ufb01")), BOOT),
    "soft hyphens": Shape(changed(lambda line: line.replace("_", "_\xad")), BOOT),
    # Mail.
    "quoted-printable": Shape(lambda lines: quopri.encodestring(stamped(lines).encode()).decode(), BOOT),
    "mail, quoted-printable": Shape(mail(quopri.encodestring, "quoted-printable"), BOOT),
    "mail, base64": Shape(mail(base64.encodebytes, "base64"), BOOT),
    "mail with an attachment": Shape(multipart, BOOT),
    "wrapped at 72": Shape(wrapped(72), BOOT),
    "wrapped at 78, syslog": Shape(wrapped(78, "", syslog), LOCAL, "h1"),
    "wrapped and quoted": Shape(wrapped(72, "> "), BOOT),
}


@pytest.mark.parametrize("style", SHAPES)
def test_every_way_of_different_eras(style: str, tmp_path: Path) -> None:
    check_eras(style, SHAPES[style], ERAS, tmp_path)


def test_a_name_may_look_like_a_colour_or_an_entity(tmp_path: Path) -> None:
    for name in ("\\x1b[31mred", "a&lt;b", "[m]", "x_\\_y", "it's", 'a "b"'):
        line = f"{DAY} h1 kernel: Out of memory: Killed process 7 ({name}) total-vm:4kB, anon-rss:4kB, file-rss:0kB\n"
        (kill,) = read(line, tmp_path)
        assert kill.victim is not None
        assert kill.victim.comm == name


def test_a_lead_of_the_first_line_alone_makes_no_second_stream(tmp_path: Path) -> None:
    report = made("6.1", random.Random(1))
    for before in ("$ dmesg: ", "i-0abc\t", "[code] ", "\u201c"):
        (kill,) = read(before + stamped(report.lines), tmp_path)
        assert told(kill) == truth(report)


ODD_ROWS = (
    "[    7]     0     7     1000      100",
    "[    7]     0     7     1000      100    94208        0             0 caf\u00e9",
    "[    7]     0     7     1000      100    94208        0             0 a\r",
    "[    7]     0     7     1000      100    94208        0             0 a [    8]  0  8  1  1  1  0  0 c",
    "[    7]     0     7",
    "usb 1-1: new device",
)


@pytest.mark.parametrize("odd", ODD_ROWS)
@pytest.mark.parametrize("era", ("3.10", "6.1", "6.8"))
def test_rows_read_as_a_whole_are_those_read_one_by_one(odd: str, era: str, tmp_path: Path) -> None:
    report = made(era, random.Random(odd))
    lines = list(report.lines)
    row = max(number for number, line in enumerate(lines) if re.match(r"\[ *\d+\]", line))
    lines.insert(row - 2, odd)
    text = stamped(lines)
    parser = Parser(datetime(2026, 6, 1))
    one_by_one = [kill for line in text.split("\n") for kill in parser.feed(line.rstrip("\r"))] + parser.flush()
    assert [told(kill) for kill in read(text, tmp_path)] == [told(kill) for kill in one_by_one]
