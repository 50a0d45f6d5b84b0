"""A machine that needs no KVM: guest code runs on Unicorn, and the kernel's part is modelled.

>>> from kvmwhy.machine.model import Model
>>> Model(kernel="6.1", vendor="svm")
<Model 6.1 svm>

What KVM decides (fetch, emulator, failure, event delivery, record) follows the chosen kernel release;
what the CPU reports follows the chosen vendor. The CPU itself is Unicorn's, an optional dependency
(``pip install 'kvmwhy[model]'``) that is imported with the first vCPU.
"""

from __future__ import annotations

from kvmwhy.machine.model.kernel import Bench, UnknownKernelError, Vendor
from kvmwhy.machine.model.vm import Model, UnknownVendorError

__all__ = ["Bench", "Model", "UnknownKernelError", "UnknownVendorError", "Vendor"]
