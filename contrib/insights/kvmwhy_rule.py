"""A rule for insights-core: why KVM gave up on guests of the host that an archive is of.

    insights-run -p kvmwhy_rule sosreport-host.tar.xz          # with this directory in PYTHONPATH

Both insights-core and kvmwhy must be installed for the same Python.
"""

import os
from typing import Any

from insights.core.filters import add_filter
from insights.core.plugins import make_fail, rule
from insights.specs import Specs

import kvmwhy

ERROR_KEY = "KVM_GAVE_UP_ON_A_GUEST"
CONTENT = """
KVM gave up on {{ failures | length }} guest(s):
{% for failure in failures -%}
* {{ failure.log }}: {{ failure.answer }}
  mechanism {{ failure.mechanism }}, most likely the doing of: {{ failure.origin }}
{%- for advice in failure.advice %}
  {{ advice.role }}: {{ advice.text }}
{%- endfor %}
{% endfor %}
"""

# insights-core keeps of these logs the lines that some rule asks for; the files are read whole below.
add_filter(Specs.libvirtd_qemu_log, ["KVM", "kvm"])
add_filter(Specs.dmesg, ["KVM", "kvm", "VMCS", "VMCB"])


@rule([Specs.libvirtd_qemu_log, Specs.dmesg])
def report(qemu_logs: Any, dmesg: Any) -> Any:
    """One result for all failures; none, where there is no failure."""
    providers = [*(qemu_logs or ()), *(dmesg if isinstance(dmesg, list) else [dmesg] if dmesg else ())]
    paths = [os.path.join(provider.root, provider.relative_path) for provider in providers]
    diagnoses = kvmwhy.explain(*(path for path in paths if os.path.isfile(path)))
    failures = [_failure(diagnosis, providers[0].root) for diagnosis in diagnoses if diagnosis.mechanism]
    return make_fail(ERROR_KEY, failures=failures) if failures else None


def _failure(diagnosis: kvmwhy.Diagnosis, root: str) -> dict[str, Any]:
    source = diagnosis.failure.source
    log = os.path.relpath(source.path, root) if source.path else "-"
    return {
        "log": f"{log}:{source.line or '-'}",
        "answer": diagnosis.answer,
        "mechanism": diagnosis.mechanism.id if diagnosis.mechanism else "unknown",
        "origin": diagnosis.origins[0].id if diagnosis.origins else "unknown",
        "count": source.count,
        "advice": [{"role": advice.role, "text": advice.text} for advice in diagnosis.advice],
    }
