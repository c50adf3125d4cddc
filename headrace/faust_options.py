"""Options that Faust has and headrace has not, each with what to write instead."""

_LATER = "It is not part of headrace yet; see docs/from-faust.md."
_ONE_TOPIC = "Declare one topic per name."
_TYPED = "The types say how values are written; give key_type= and value_type=."
TOPIC_OPTIONS = {
    **dict.fromkeys(
        ("active_partitions", "maxsize", "has_prefix", "internal", "deleting", "config", "loop"), _LATER
    ),
    **dict.fromkeys(("schema", "key_serializer", "value_serializer"), _TYPED),
    "pattern": _ONE_TOPIC,
    "allow_empty": "A tombstone arrives as None; leave it out.",
    "acks": "Every event is acknowledged; leave it out.",
    "replicas": "Set HEADRACE_REPLICATION_FACTOR, for all topics that are created.",
}
AGENT_OPTIONS = {
    **dict.fromkeys(("supervisor_strategy", "use_reply_headers"), _LATER),
    "concurrency": "One handler at a time per partition is what makes a unit; declare more partitions.",
    "isolated_partitions": "Every partition has an agent of its own already; leave it out.",
    "sink": "Write `await other_topic.send(value=...)` in the agent.",
}
TABLE_OPTIONS = {
    **dict.fromkeys(
        ("window", "schema", "on_recover", "on_changelog_event", "extra_topic_configs", "on_window_close",
         "is_global", "options", "synchronize_all_active_partitions"), _LATER),
    **dict.fromkeys(
        ("recovery_buffer_size", "standby_buffer_size"), "Restoring needs no tuning; leave it out."),
    "partitions": "A table has as many partitions as the inputs of its group; leave it out.",
    "use_partitioner": "A table's keys are placed as those of its group's inputs; leave it out.",
}  # fmt: skip
