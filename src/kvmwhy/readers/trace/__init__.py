"""Traces of KVM: the same events in three forms, one story, one kind of failure.

    ftrace   text: ``trace``, ``trace_pipe``, ``trace-cmd report``, ``perf script``
    dat      ``trace.dat`` of trace-cmd, and the ring buffer's raw pages with their ``format`` files
    story    events, one at a time, into failures: what both use, and what a live watch feeds

Forms differ in what they print, never in what a failure is: ``events.TraceEvent`` is all that a story knows of them.
"""
