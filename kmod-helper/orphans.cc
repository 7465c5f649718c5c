#include "kmod-helper/orphans.hh"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <optional>
#include <utility>

#include "kmod-helper/log.hh"
#include "kmod-helper/netns.hh"
#include "libtto/memory/region_layout.h"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"

namespace ttod {
namespace {

using tto::wire::IpAddress;

constexpr uint32_t kMaxSlotsRead = 1u << 16;
constexpr size_t kMaxResets = 4096;  // some 20 us each, and nobody else is served meanwhile
constexpr size_t kEthernetBytes = 14;

bool read_at(int fd, void* into, size_t bytes, uint64_t offset) {
  return ::pread(fd, into, bytes, static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes);
}

/// Where the connection slots are, if that makes sense.
std::optional<std::pair<uint64_t, uint32_t>> find_slots(int region) {
  tto_region_header header;
  struct stat status;
  if (::fstat(region, &status) != 0 || !read_at(region, &header, sizeof header, 0)) return {};
  const auto size = static_cast<uint64_t>(status.st_size);
  if (header.magic != TTO_REGION_MAGIC || header.version != TTO_REGION_VERSION || header.connections_offset > size)
    return {};
  const uint64_t room = (size - header.connections_offset) / sizeof(tto_connection_slot);
  const auto count = static_cast<uint32_t>(std::min<uint64_t>({header.connection_count, room, kMaxSlotsRead}));
  return std::pair{header.connections_offset, count};
}

bool is_of_slot(const Steering& steering, const ServedNamespace& netns, const tto_connection_record& record,
                uint32_t slot) {
  const auto nic = netns.nics().find(static_cast<int>(record.ifindex));
  if (nic == netns.nics().end()) return false;
  tto_flow_key key{};
  key.nic = nic->second.nic_id;
  key.vlan = nic->second.vlan;
  std::memcpy(key.local, record.local, 16);
  std::memcpy(key.remote, record.remote, 16);
  key.local_port = htons(record.local_port);
  key.remote_port = htons(record.remote_port);
  tto_flow_value value{};
  return steering.find_flow(key, value) && value.slot == slot;
}

struct RawSockets {
  Fd v4, v6;
  bool open(int netns) {
    try {
      NetnsScope inside(netns);
      v4.reset(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
      v6.reset(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
    } catch (const std::exception& e) {  // out of descriptors: the peers find out by themselves, the session must end
      LOG_ERROR("connections of a dead client are not reset: %s", e.what());
    }
    return static_cast<bool>(v4);
  }
};

bool send_reset(const RawSockets& sockets, const tto_connection_record& record) {
  tto::wire::FrameHeaders headers;
  std::memcpy(headers.source.bytes.data(), record.local, 16);
  std::memcpy(headers.destination.bytes.data(), record.remote, 16);
  headers.source_port = record.local_port;
  headers.destination_port = record.remote_port;
  headers.seq = {static_cast<uint32_t>(record.snd_nxt)};
  headers.ack = {static_cast<uint32_t>(record.rcv_nxt)};
  headers.flags = tto::wire::kRst | tto::wire::kAck;
  std::array<uint8_t, tto::wire::kMaxHeaderBytes> room;
  uint8_t* const end = room.data() + room.size();
  const size_t bytes = tto::wire::emit_headers(headers, end, 0, 0) - kEthernetBytes;
  if (headers.source.is_v4()) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = headers.destination.v4();
    return ::sendto(sockets.v4.get(), end - bytes, bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), sizeof to) >
           0;
  }
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  std::memcpy(&to.sin6_addr, record.remote, 16);
  if (IN6_IS_ADDR_LINKLOCAL(&to.sin6_addr)) to.sin6_scope_id = record.ifindex;
  return ::sendto(sockets.v6.get(), end - bytes, bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), sizeof to) > 0;
}

}  // namespace

size_t reset_orphans(const Steering& steering, const ServedNamespace& netns, uint32_t slot, int region) {
  const auto slots = find_slots(region);
  if (!slots) return 0;
  RawSockets sockets;
  size_t sent = 0;
  for (uint32_t i = 0; i < slots->second && sent < kMaxResets; ++i) {
    tto_connection_slot copy;
    if (!read_at(region, &copy, sizeof copy, slots->first + i * uint64_t{sizeof copy})) break;
    const tto_connection_record& record = copy.record[copy.generation & 1];
    if (copy.state != TTO_SLOT_LIVE || !is_of_slot(steering, netns, record, slot)) continue;
    if (!sockets.v4 && !sockets.open(netns.fd())) break;
    sent += send_reset(sockets, record);
  }
  return sent;
}

}  // namespace ttod
