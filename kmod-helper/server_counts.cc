// What the daemon tells tools: the counts of the BPF programs and AF_XDP sockets.
#include <linux/if_xdp.h>
#include <sys/socket.h>

#include <algorithm>
#include <iterator>

#include "kmod-helper/server.hh"

namespace ttod {

std::optional<tto_helper_counted> Server::counts(const Peer& peer, uint32_t pid) {
  static_assert(TTO_HELPER_TX_COUNTS == TTO_TX_COUNTS && TTO_HELPER_STEER_COUNTS == TTO_STEER_COUNTS);
  tto_helper_counted out{};
  for (const auto& [id, client] : clients_) {
    const Peer& owner = client.session.peer();
    if (static_cast<uint32_t>(owner.pid) != pid || (peer.uid != 0 && peer.uid != owner.uid)) continue;
    for (const auto& [cookie, port] : client.ports) {
      if (out.port_count == TTO_HELPER_COUNTED_PORTS) break;
      tto_helper_port_counts& of_port = out.ports[out.port_count++];
      of_port.slot = port.slot;
      const tto_tx_counts counts = steering_.tx_counts(port.slot);
      std::copy(std::begin(counts.frames), std::end(counts.frames), of_port.tx);
      xdp_statistics of_socket{};
      socklen_t bytes = sizeof of_socket;
      if (::getsockopt(port.xsk.get(), SOL_XDP, XDP_STATISTICS, &of_socket, &bytes) != 0) continue;
      of_port.rx_dropped = of_socket.rx_dropped;
      of_port.rx_ring_full = of_socket.rx_ring_full;
    }
  }
  if (out.port_count == 0) return std::nullopt;
  if (peer.uid == 0) {
    out.shows_steering = 1;
    std::ranges::copy(steering_.steer_counts(), out.steering);
  }
  return out;
}

}  // namespace ttod
