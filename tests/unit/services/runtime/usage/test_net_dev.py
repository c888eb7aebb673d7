"""/proc/net/dev as kernels write it."""

from __future__ import annotations

from services.runtime.usage import net_dev

TEXT = """\
Inter-|   Receive                                         |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
 lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
 eth0: 1656 20 3 4 0 0 0 0 402 5 6 7 0 0 0 0
a:b:12345678901234567890 20 0 0 0 0 0 0 402 5 0 0 0 0 0 0
"""


def test_every_interface_but_the_loopback_is_read() -> None:
    eth0, alias = net_dev.parse(TEXT)
    assert (eth0.name, eth0.rx_bytes, eth0.rx_packets, eth0.rx_errors, eth0.rx_dropped) == ("eth0", 1656, 20, 3, 4)
    assert (eth0.tx_bytes, eth0.tx_packets, eth0.tx_errors, eth0.tx_dropped) == (402, 5, 6, 7)
    assert (alias.name, alias.rx_bytes) == ("a:b", 12345678901234567890)


def test_a_cut_line_is_left_out() -> None:
    assert net_dev.parse("eth0: 1 2 3\n") == ()
    assert net_dev.parse("") == ()
