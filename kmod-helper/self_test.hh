// What ttod shows to itself before it serves anyone.
#pragma once

namespace ttod {

/// A socket restored by TCP_REPAIR receives a byte injected by a raw socket, in a namespace made for it. Throws
/// std::runtime_error or std::system_error if that does not work over IPv4; warns if it does not over IPv6.
void self_test_handover();

}  // namespace ttod
