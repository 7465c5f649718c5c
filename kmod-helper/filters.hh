// Does a firewall or a tc rule see the traffic of this namespace or interface? Accelerated frames pass by both, so ttod
// refuses where there are any, unless the policy says otherwise.
#pragma once

#include <string>

namespace ttod {

/// Of the calling thread's namespace: nftables rules or drop policies, legacy iptables tables. Empty: none; else what.
std::string find_firewall();
/// tc filters, or tc programs, on an interface of the calling thread's namespace. Empty: none; else what.
std::string find_tc_filter(int ifindex);

}  // namespace ttod
