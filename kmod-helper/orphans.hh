// The connections of a process that ended without closing them: killed, or its session broken. Nobody can go on with
// them, so their peers are told, as the kernel tells the peer of a killed process whose data was not read: RST.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kmod-helper/served_namespace.hh"
#include "kmod-helper/steering.hh"

namespace ttod {

/// Sends RST for every connection that the region's records name and that the flow table says is this slot's: so while
/// the slot's entries are still there. The region is what the dead client left, thus anything: it is copied once, and
/// what it can achieve is a RST with wrong sequence numbers in a connection of its own. Returns how many were sent;
/// throws nothing.
size_t reset_orphans(const Steering& steering, const ServedNamespace& netns, uint32_t slot, int region);

}  // namespace ttod
