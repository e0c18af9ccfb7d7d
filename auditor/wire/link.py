"""Link layers: numbers of the headers before the IP header, and offsets of their fields.

A frame starts as one of the LINKTYPE_ headers (https://www.tcpdump.org/linktypes.html) and goes on with a chain of EtherTypes (IEEE 802
numbers, https://www.iana.org/assignments/ieee-802-numbers): tags, labels and sessions, until one of them is IP. Offsets count from the
first byte of their header.
"""

# -- link types -------------------------------------------------------------------------------------------------------------------
LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_TOKEN_RING = 6
LINKTYPE_SLIP = 8
LINKTYPE_PPP = 9
LINKTYPE_FDDI = 10
DLT_RAW_BSD = 12
DLT_RAW_OPENBSD = 14
LINKTYPE_PPP_SERIAL = 50
LINKTYPE_PPP_ETHER = 51
LINKTYPE_ATM_RFC1483 = 100
LINKTYPE_RAW = 101
LINKTYPE_C_HDLC = 104
LINKTYPE_IEEE802_11 = 105
LINKTYPE_ATM_CLIP = 106
LINKTYPE_FRELAY = 107
LINKTYPE_LOOP = 108
LINKTYPE_ENC = 109
LINKTYPE_LINUX_SLL = 113
LINKTYPE_PFLOG = 117
LINKTYPE_PRISM = 119
LINKTYPE_SUNATM = 123
LINKTYPE_RADIOTAP = 127
LINKTYPE_AVS = 163
LINKTYPE_PPI = 192
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_NFLOG = 239
LINKTYPE_NETLINK = 253
LINKTYPE_MPACKET = 274
LINKTYPE_LINUX_SLL2 = 276

# -- EtherTypes -------------------------------------------------------------------------------------------------------------------
ETHERTYPE_MIN = 0x0600
"""A smaller number in the type field is the length of an LLC frame (IEEE 802.3 section 3.2.6)."""
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_TEB = 0x6558
"""Transparent Ethernet bridging: an Ethernet frame follows (RFC 1701)."""
ETHERTYPE_VLAN = 0x8100
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_PPP = 0x880B
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_MPLS_UPSTREAM = 0x8848
ETHERTYPE_PPPOE_SESSION = 0x8864
ETHERTYPE_FABRICPATH = 0x8903
"""Cisco FabricPath: its addresses stand where Ethernet's do, then two bytes of tag, then an Ethernet frame."""
ETHERTYPE_CISCO_METADATA = 0x8909
ETHERTYPE_PBB = 0x88E7
"""The I-TAG of IEEE 802.1ah: four bytes, then an Ethernet frame."""
ETHERTYPE_QINQ = 0x88A8
ETHERTYPE_VNTAG = 0x8926
ETHERTYPE_NSH = 0x894F
ETHERTYPE_QINQ_OLD = 0x9100
ETHERTYPE_QINQ_OLD2 = 0x9200
ETHERTYPE_QINQ_OLD3 = 0x9300

ETHERTYPE_TRILL = 0x22F3
ETHERTYPE_BATMAN = 0x4305
ETHERTYPE_MACSEC = 0x88E5
ETHERTYPE_HSR = 0x892F
ETHERTYPE_8021BR = 0x893F
UNREAD = {
    ETHERTYPE_TRILL: "TRILL",
    ETHERTYPE_BATMAN: "B.A.T.M.A.N.",
    ETHERTYPE_MACSEC: "MACsec (802.1AE)",
    ETHERTYPE_HSR: "HSR",
    ETHERTYPE_8021BR: "802.1BR",
}
"""What carries whole frames and is not read."""

# -- Ethernet and its tags --------------------------------------------------------------------------------------------------------
ETH_SRC = 6
ETH_TYPE = 12
ETH_BYTES = 14
VLAN_ID = 0x0FFF
VLAN_TYPE = 2
VLAN_BYTES = 4
VNTAG_TYPE = 4
VNTAG_BYTES = 6
CISCO_METADATA_LENGTH = 1  # in words of eight bytes, the next EtherType included
PBB_BYTES = 4
FABRICPATH_BYTES = 2
PPPOE_VERSION_TYPE = 0  # 0x11, RFC 2516 section 4
PPPOE_CODE = 1
PPPOE_BYTES = 6
MPACKET_PREAMBLE_BYTES = 8  # preamble and SMD octet, IEEE 802.3br

# -- LLC and SNAP (IEEE 802.2; RFC 1042) --------------------------------------------------------------------------------------------
LLC_BYTES = 3
LLC_SNAP_SAP = 0xAA
LLC_IP_SAP = 0x06
LLC_OSI_SAP = 0xFE
LLC_UI = 0x03
SNAP_OUI = 3
SNAP_PID = 6
SNAP_BYTES = 8
OUI_ETHERNET = 0x000000
OUI_BRIDGE_TUNNEL = 0x0000F8
OUI_IEEE_8021 = 0x0080C2
"""Bridged frames, RFC 2684 section 5.2: PIDs 1 and 7 are Ethernet with and without its FCS."""
NLPID_SNAP = 0x80
NLPID_IPV4 = 0xCC
NLPID_IPV6 = 0x8E

# -- MPLS (RFC 3032 section 2.1; RFC 4448 section 4.6) --------------------------------------------------------------------------------
MPLS_BYTES = 4
MPLS_BOTTOM = 0x100
PW_CONTROL_WORD_BYTES = 4

# -- NSH (RFC 8300 section 2.2) -------------------------------------------------------------------------------------------------------
NSH_NEXT = 3
NSH_MIN_BYTES = 8
NSH_NEXT_IPV4 = 1
NSH_NEXT_IPV6 = 2
NSH_NEXT_ETHERNET = 3
NSH_NEXT_NSH = 4
NSH_NEXT_MPLS = 5

# -- PPP (RFC 1661 section 2, RFC 1662 section 3.1) and what frames it ------------------------------------------------------------------
PPP_ADDRESS_CONTROL = 0xFF03
PPP_IPV4 = 0x0021
PPP_IPV6 = 0x0057
PPP_BRIDGED = 0x0031
PPP_MULTILINK = 0x003D
PPP_MPLS = 0x0281
PPP_MPLS_MULTICAST = 0x0283
PPP_MULTILINK_BYTES = 4  # long sequence numbers, RFC 1990 section 3
PPP_MULTILINK_WHOLE = 0xC0  # begins and ends here
C_HDLC_TYPE = 2
C_HDLC_BYTES = 4

# -- BSD loopback, PF and IPsec devices -------------------------------------------------------------------------------------------------
NULL_BYTES = 4
AF_INET = 2
AF_BRIDGE = 7
AF_INET6_LINUX = 10
AF_INET6_WINDOWS = 23
AF_INET6_BSD = 24
AF_INET6_DARWIN = 30
ENC_BYTES = 12
SLIP_BYTES = 16

# -- Linux cooked -------------------------------------------------------------------------------------------------------------------------
SLL_PROTOCOL = 14
SLL_BYTES = 16
SLL2_PROTOCOL = 0
SLL2_BYTES = 20
SLL_PROTOCOL_LLC = 0x0004
SLL_PROTOCOL_ETHERNET = 0x0003

# -- NFLOG and netlink: messages in the byte order of the host (linktypes: LINKTYPE_NFLOG, LINKTYPE_NETLINK) ----------------------------------
NFLOG_FAMILY = 0
NFLOG_BYTES = 4
NFLOG_TLV_BYTES = 4
NFULA_PACKET_HDR = 1
NFULA_PAYLOAD = 9
NFULA_MASK = 0x3FFF
NETLINK_COOKED_PROTOCOL = 14
NETLINK_COOKED_BYTES = 16
NETLINK_NETFILTER = 12
NLMSG_TYPE = 4
NLMSG_BYTES = 16
NFNL_ULOG_PACKET = 0x0400
NFNL_QUEUE_PACKET = 0x0300
NFQA_PAYLOAD = 10

# -- 802.11 (IEEE 802.11 section 9.2) and the headers in front of it ----------------------------------------------------------------------------
WLAN_BYTES = 24
WLAN_ADDRESS4_BYTES = 6
WLAN_QOS_BYTES = 2
WLAN_HT_BYTES = 4
WLAN_AMSDU = 0x80
WLAN_AMSDU_BYTES = 14
RADIOTAP_LENGTH = 2
RADIOTAP_PRESENT = 4
RADIOTAP_BYTES = 8
RADIOTAP_DATAPAD = 0x20
PPI_LENGTH = 2
PPI_DLT = 4
PPI_BYTES = 8
PRISM_LENGTH = 4
PRISM_BYTES = 144
AVS_MAGIC = 0x80211001
AVS_LENGTH = 4

FDDI_BYTES = 13
TOKEN_RING_BYTES = 14
SUNATM_BYTES = 4
SUNATM_LLC = 2
