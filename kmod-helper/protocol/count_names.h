/* What the numbers of a COUNTED message are, in their order, which is that of the BPF programs' own counts. */
#ifndef TTO_HELPER_COUNT_NAMES_H
#define TTO_HELPER_COUNT_NAMES_H

#include "kmod-helper/protocol/helper_protocol.h"

/* Of a port: frames that the transmit check let out, and why it dropped others. */
static const char* const tto_helper_tx_names[TTO_HELPER_TX_COUNTS] = {
    "sent",           "sent_syn_ack",   "sent_listen_rst", "drop_no_slot", "drop_malformed",
    "drop_ethertype", "drop_not_tcp",   "drop_fragment",   "drop_length",  "drop_source_mac",
    "drop_neighbor",  "drop_not_owner", "drop_limit",      "drop_no_nic"};

/* Of all NICs: frames that were steered to a port, and why others passed to the kernel. */
static const char* const tto_helper_steer_names[TTO_HELPER_STEER_COUNTS] = {
    "flow",       "listen",         "icmp",        "fragment",  "pass_no_entry",
    "pass_other", "pass_malformed", "pass_kernel", "pass_hold", "pass_no_port"};

#endif
