"""Reads OTLP/JSON into OpenTelemetry's own messages (package opentelemetry-proto) and prints what
it found. Fails if a member is unknown to the published schema, has another type, or means nothing.

Usage: python check_otlp.py FILE [--spans N] [--parents]
  --spans N   there must be so many spans
  --parents   there must be a span whose parent is of another node
"""

import argparse
import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

# OTLP/JSON has hexadecimal digits where protobuf's own JSON has base64, and nowhere else.
IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def fail(message):
    sys.exit(f"check_otlp: {message}")


def as_protobuf(value):
    """The same with ids as protobuf wants them."""
    if isinstance(value, list):
        return [as_protobuf(part) for part in value]
    if not isinstance(value, dict):
        return value
    shown = {}
    for name, part in value.items():
        if name in IDS:
            raw = bytes.fromhex(part)
            if len(raw) != IDS[name] or not any(raw):
                fail(f"{name} {part!r} is not {IDS[name]} bytes, or nothing")
            part = base64.b64encode(raw).decode()
        elif name.endswith("UnixNano") and not isinstance(part, str):
            fail(f"{name} {part!r} is not a text, as numbers of 64 bits are in OTLP/JSON")
        shown[name] = as_protobuf(part) if name not in IDS else part
    return shown


def main():
    options = argparse.ArgumentParser()
    options.add_argument("file")
    options.add_argument("--spans", type=int)
    options.add_argument("--parents", action="store_true")
    options = options.parse_args()
    with open(options.file, encoding="utf-8") as file:
        text = json.load(file)
    # Strict: what the schema does not know is an error here.
    data = json_format.ParseDict(as_protobuf(text), TracesData(), ignore_unknown_fields=False)
    home, counts = {}, {"resources": 0, "spans": 0, "events": 0, "failed": 0, "roots": 0}
    remote = []
    for resource in data.resource_spans:
        counts["resources"] += 1
        about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
        if about.get("service.name") != "pangea" or not about.get("service.instance.id"):
            fail(f"a resource without service.name and service.instance.id: {about}")
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            counts["spans"] += 1
            counts["events"] += len(span.events)
            counts["failed"] += span.status.code == Status.STATUS_CODE_ERROR
            counts["roots"] += not span.parent_span_id
            if (span.trace_id, span.span_id) in home:
                fail(f"span {span.span_id.hex()} is there twice")
            home[span.trace_id, span.span_id] = about["service.instance.id"]
            if not span.name or span.kind == Span.SPAN_KIND_UNSPECIFIED:
                fail(f"span {span.span_id.hex()} has no name or no kind")
            if span.end_time_unix_nano < span.start_time_unix_nano:
                fail(f"span {span.span_id.hex()} ends before it begins")
            for event in span.events:
                if not event.name or not event.time_unix_nano:
                    fail(f"an event of span {span.span_id.hex()} has no name or no time")
            remote.append((span, about["service.instance.id"]))
    elsewhere = sum(
        home.get((span.trace_id, span.parent_span_id), node) != node for span, node in remote
    )
    counts["parents on another node"] = elsewhere
    # Whoever receives it gets it as bytes; they must be the same again.
    if TracesData.FromString(data.SerializeToString()) != data:
        fail("it is not the same after it was sent")
    print(json.dumps(counts))
    if counts["spans"] == 0:
        fail("there are no spans")
    if options.spans is not None and options.spans != counts["spans"]:
        fail(f"{counts['spans']} spans, expected {options.spans}")
    if options.parents and elsewhere == 0:
        fail("no span has its parent on another node")
    print("ok")


main()
