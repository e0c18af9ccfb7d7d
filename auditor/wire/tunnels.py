"""Headers that carry one packet inside another.

GRE has its own protocol number; the others are known by a UDP port only, which proves nothing: what they claim to carry has to look
like IP before it is believed.
"""

# -- GRE, RFC 2784 section 2, RFC 2890 section 2, RFC 1701 (routing), RFC 2637 section 4.1 (version 1, PPTP) ----------------------------
GRE_PROTOCOL = 2
GRE_BYTES = 4
GRE_WORD_BYTES = 4
GRE_CHECKSUM = 0x8000
GRE_ROUTING = 0x4000
GRE_KEY = 0x2000
GRE_SEQUENCE = 0x1000
GRE_ACK = 0x0080
GRE_VERSION = 0x0007
GRE_ROUTE_LENGTH = 3  # of a source route entry; the entry of length 0 is the last
GRE_PROTOCOL_ERSPAN = 0x88BE
GRE_PROTOCOL_ERSPAN3 = 0x22EB
GRE_PROTOCOL_WCCP = 0x883E
GRE_WCCP_REDIRECT_BYTES = 4

# -- ERSPAN, draft-foschiano-erspan-03 section 4 -------------------------------------------------------------------------------------
ERSPAN2_BYTES = 8
ERSPAN3_BYTES = 12
ERSPAN3_FLAGS = 10
ERSPAN3_SUBHEADER = 0x0001
ERSPAN3_SUBHEADER_BYTES = 8
ERSPAN3_FRAME_TYPE_SHIFT = 10
ERSPAN3_FRAME_TYPE_MASK = 0x1F
ERSPAN3_FRAME_TYPE_IP = 2

ETHERIP_VERSION = 0x30  # RFC 3378 section 2
ETHERIP_BYTES = 2

# -- UDP ports -----------------------------------------------------------------------------------------------------------------------
PORT_L2TP = 1701
PORT_GTP_U = 2152
PORT_TEREDO = 3544
PORT_VXLAN = 4789
PORT_VXLAN_GPE = 4790
PORT_GENEVE = 6081
PORT_MPLS = 6635
PORT_VXLAN_LINUX = 8472

# -- VXLAN, RFC 7348 section 5; group policy, draft-smith-vxlan-group-policy-05 section 2.1; GPE, draft-ietf-nvo3-vxlan-gpe-13 section 3 ----
VXLAN_FLAGS = 0
VXLAN_NEXT = 3
VXLAN_VNI = 4
VXLAN_BYTES = 8
VXLAN_INSTANCE = 0x08
VXLAN_GROUP_POLICY = 0x80
VXLAN_GPE_VERSION = 0x30

# -- Geneve, RFC 8926 section 3.4 ----------------------------------------------------------------------------------------------------
GENEVE_VERSION_LENGTH = 0
GENEVE_PROTOCOL = 2
GENEVE_VNI = 4
GENEVE_BYTES = 8
GENEVE_VERSION = 0xC0
GENEVE_LENGTH_MASK = 0x3F  # words of four bytes

# -- GTP-U, 3GPP TS 29.281 section 5.1 -------------------------------------------------------------------------------------------------
GTP_FLAGS = 0
GTP_MESSAGE = 1
GTP_BYTES = 8
GTP_OPTIONAL_BYTES = 4
GTP_VERSION_MASK = 0xF0
GTP_VERSION = 0x30  # version 1, protocol type GTP
GTP_OPTIONAL = 0x07
GTP_EXTENSION = 0x04
GTP_NEXT_EXTENSION = 11
GTP_G_PDU = 0xFF

# -- Teredo, RFC 4380 section 5.1.1 ----------------------------------------------------------------------------------------------------
TEREDO_ORIGIN = 0x0000
TEREDO_AUTHENTICATION = 0x0001
TEREDO_ORIGIN_BYTES = 8
TEREDO_AUTHENTICATION_BYTES = 13  # without client identifier and authentication value
TEREDO_ID_LENGTH = 2
TEREDO_AU_LENGTH = 3

# -- L2TP version 2, RFC 2661 section 3.1 ------------------------------------------------------------------------------------------------
L2TP_CONTROL = 0x8000
L2TP_LENGTH = 0x4000
L2TP_SEQUENCE = 0x0800
L2TP_OFFSET = 0x0200
L2TP_VERSION_MASK = 0x000F
L2TP_VERSION = 2
L2TP_BYTES = 6  # flags, tunnel, session
