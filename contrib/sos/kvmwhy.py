"""A plugin for sos: why KVM gave up on guests of this host, and what the host offers to KVM.

    install -m 644 kvmwhy.py /usr/lib/python3/dist-packages/sos/report/plugins/       # Debian and Ubuntu
    install -m 644 kvmwhy.py /usr/lib/python3.*/site-packages/sos/report/plugins/     # Fedora and RHEL

sos enables it where a command kvmwhy is on PATH. Nothing of it changes a guest or the host.
"""

from sos.report.plugins import DebianPlugin, Plugin, RedHatPlugin, UbuntuPlugin


class Kvmwhy(Plugin, RedHatPlugin, DebianPlugin, UbuntuPlugin):
    """What kvmwhy answers about the logs that libvirt and the kernel keep."""

    short_desc = "Why KVM gave up on guests"
    plugin_name = "kvmwhy"
    profiles = ("system", "virt")
    commands = ("kvmwhy",)
    files = ("/usr/bin/kvmwhy", "/usr/local/bin/kvmwhy")

    def setup(self) -> None:
        """Explained logs, VMMs that are running, the host; and the records of `kvmwhy watch`."""
        self.add_copy_spec(["/var/log/kvmwhy/failures.jsonl*"])
        self.add_cmd_output(
            [
                "kvmwhy doctor --json",
                "kvmwhy explain --limit 100 /var/log/libvirt/qemu",
                "kvmwhy explain --limit 1000 --json /var/log/libvirt/qemu",
            ]
        )
        # These look at live VMMs and at the kernel's log: as root, and read only.
        self.add_cmd_output(["kvmwhy attach --all", "sh -c 'dmesg | kvmwhy explain --limit 100'"])
