"""A timeline as the official classes of Perfetto's format read it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as official

BEGIN, END, INSTANT = (
    official.TrackEvent.Type.Value(f"TYPE_{name}") for name in ("SLICE_BEGIN", "SLICE_END", "INSTANT")
)


class Slice:
    """One event of the parsed file, its numbered names looked up."""

    def __init__(self, packet: Any, names: dict[str, dict[int, str]]) -> None:
        event = packet.track_event
        self.ns, self.track, self.type = packet.timestamp, event.track_uuid, event.type
        self.name = event.name or names["event"].get(event.name_iid, "")
        self.category = "".join(names["category"][iid] for iid in event.category_iids) + "".join(event.categories)
        self.said = {
            (one.name or names["argument"][one.name_iid]): getattr(one, one.WhichOneof("value"))
            for one in event.debug_annotations
        }


class Parsed:
    """A file as the official classes read it: its tracks by number, and its events in order."""

    def __init__(self, data: bytes) -> None:
        trace = official.Trace.FromString(data)
        assert trace.SerializeToString() == data
        self.tracks: dict[int, Any] = {}
        self.events: list[Slice] = []
        names: dict[str, dict[int, str]] = {"event": {}, "category": {}, "argument": {}}
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
                continue
            interned = packet.interned_data
            for table, entries in (
                ("event", interned.event_names),
                ("category", interned.event_categories),
                ("argument", interned.debug_annotation_names),
            ):
                for entry in entries:
                    assert entry.iid not in names[table]
                    names[table][entry.iid] = entry.name
            self.events.append(Slice(packet, names))

    def held(self) -> Parsed:
        """On each track time never runs back, slices nest and all end, and every track has been named before."""
        last: dict[int, int] = {}
        open_: Counter[int] = Counter()
        for event in self.events:
            assert event.track in self.tracks
            assert event.ns >= last.get(event.track, 0)
            last[event.track] = event.ns
            open_[event.track] += (event.type == BEGIN) - (event.type == END)
            assert 0 <= open_[event.track] <= 2
        assert not any(open_.values())
        assert all(track.parent_uuid in {0, *self.tracks} for track in self.tracks.values())
        return self
