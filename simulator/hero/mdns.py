"""How a GoPro makes itself known on its network: `_gopro-web._tcp`, named by its whole serial number."""

import socket

from zeroconf import IPVersion, ServiceInfo, Zeroconf

SERVICE = "_gopro-web._tcp.local."


class Announcement:
    """The camera's answer to mDNS questions on the network of `host`, from now until it is closed."""

    def __init__(self, serial: str, host: str, port: int) -> None:
        self._zeroconf = Zeroconf(interfaces=[host], ip_version=IPVersion.V4Only)
        name, addresses = f"{serial}.{SERVICE}", [socket.inet_aton(host)]
        server = f"{serial}.local."
        self._zeroconf.register_service(ServiceInfo(SERVICE, name, port, addresses=addresses, server=server))

    def close(self) -> None:
        """Say goodbye."""
        self._zeroconf.unregister_all_services()
        self._zeroconf.close()
