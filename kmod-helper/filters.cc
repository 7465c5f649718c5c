#include "kmod-helper/filters.hh"

#include <bpf/bpf.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/pkt_sched.h>

#include <fstream>

#include "kmod-helper/netlink.hh"

namespace ttod {
namespace {

uint16_t nft_type(int message) { return static_cast<uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }

std::string find_nftables() {
  NetlinkSocket socket;
  if (socket.open(NETLINK_NETFILTER) != 0) return {};  // the kernel has no netfilter
  const nfgenmsg all{.nfgen_family = NFPROTO_UNSPEC, .version = NFNETLINK_V0, .res_id = 0};
  size_t rules = 0, drops = 0;
  NetlinkRequest get_rules(nft_type(NFT_MSG_GETRULE), NLM_F_DUMP);
  get_rules.body(all);
  socket.dump(get_rules, [&](const nlmsghdr* m) { rules += m->nlmsg_type == nft_type(NFT_MSG_NEWRULE); });
  NetlinkRequest get_chains(nft_type(NFT_MSG_GETCHAIN), NLM_F_DUMP);
  get_chains.body(all);
  socket.dump(get_chains, [&](const nlmsghdr* m) {
    if (m->nlmsg_type != nft_type(NFT_MSG_NEWCHAIN)) return;
    const NetlinkAttributes attributes(m, sizeof(nfgenmsg));
    if (attributes.has(NFTA_CHAIN_HOOK) && be32toh(attributes.u32(NFTA_CHAIN_POLICY, htobe32(NF_ACCEPT))) == NF_DROP)
      ++drops;
  });
  if (rules == 0 && drops == 0) return {};
  return "nftables (" + std::to_string(rules) + " rules, " + std::to_string(drops) + " chains that drop)";
}

bool has_tc_filters(NetlinkSocket& socket, int ifindex, uint32_t parent) {
  tcmsg which{};

  which.tcm_ifindex = ifindex;
  which.tcm_parent = parent;
  NetlinkRequest request(RTM_GETTFILTER, NLM_F_DUMP);
  request.body(which);
  bool found = false;
  socket.dump(request, [&](const nlmsghdr* m) { found = found || m->nlmsg_type == RTM_NEWTFILTER; });
  return found;
}

bool has_tcx_programs(int ifindex, int where) {
  LIBBPF_OPTS(bpf_prog_query_opts, options);
  return bpf_prog_query_opts(ifindex, static_cast<bpf_attach_type>(where), &options) == 0 && options.prog_cnt > 0;
}

}  // namespace

std::string find_firewall() {
  std::string found = find_nftables();
  for (const char* table_list : {"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"}) {
    std::ifstream file(table_list);
    std::string table;
    while (std::getline(file, table)) found += (found.empty() ? "iptables table " : ", iptables table ") + table;
  }
  return found;
}

std::string find_tc_filter(int ifindex) {
  constexpr int kTcxIngress = 46, kTcxEgress = 47;  // BPF_TCX_*: newer than our headers
  NetlinkSocket socket;
  if (socket.open(NETLINK_ROUTE) != 0) return {};
  if (has_tc_filters(socket, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS))) return "tc ingress filter";
  if (has_tc_filters(socket, ifindex, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS))) return "tc egress filter";
  if (has_tc_filters(socket, ifindex, 0)) return "tc filter on the root queue";
  if (has_tcx_programs(ifindex, kTcxIngress) || has_tcx_programs(ifindex, kTcxEgress)) return "tc program (tcx)";
  return {};
}

}  // namespace ttod
