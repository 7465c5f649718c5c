// What a new connection starts with when the application said nothing: the namespace's sysctls as engine settings.
#pragma once

#include <cstdint>

#include "libtto/control/sysctls.hh"
#include "libtto/tcp/connection_config.hh"

namespace tto::stack {

enum class Opening : uint8_t { kActive, kPassive };

/// Sets what the sysctls decide and leaves the rest (addresses, MTUs, ISS, options of the socket). Congestion controls
/// that the engine does not have become CUBIC.
void apply_sysctls(const control::TcpSysctls& sysctls, Opening opening, tcp::ConnectionConfig& config);

}  // namespace tto::stack
