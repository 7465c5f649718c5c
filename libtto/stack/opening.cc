// What has to be agreed with the kernel and with ttod before a connection or listener of ours may be: the route, the local
// port, the lease. Runtime::prepare_connect and prepare_listen.
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>

#include "libtto/base/sys.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/connection_defaults.hh"
#include "libtto/stack/runtime.hh"
#include "libtto/stack/runtime_state.hh"

namespace tto::stack {
namespace {

using stats::Counter;

// How long the next hop's address may take. A non-blocking connect() must come back soon; the kernel takes over then.
constexpr Duration kNeighborPatience = milliseconds(1000);
constexpr Duration kNeighborPatienceNonblocking = milliseconds(50);
constexpr int kBindToIfindex = 62;              // SO_BINDTOIFINDEX
constexpr uint32_t kInitialSendBuffer = 87040;  // what Linux gives a connection with an initial window of 10

int option(int fd, int level, int name, int otherwise) {
  int value = otherwise;
  socklen_t bytes = sizeof value;
  return sys::getsockopt(fd, level, name, &value, &bytes) == 0 ? value : otherwise;
}

struct Endpoint {
  wire::IpAddress address;
  uint16_t port = 0;
  bool is_v6_socket = false;
  bool has_address = false;  // bound to one, not to a wildcard
};

bool local_endpoint(int fd, Endpoint& out) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (sys::getsockname(fd, &storage, &bytes) != 0) return false;
  if (storage.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
    out.address = wire::IpAddress::from_v4(in.sin_addr.s_addr);
    out.port = ntohs(in.sin_port);
    out.has_address = in.sin_addr.s_addr != 0;
    return true;
  }
  if (storage.ss_family != AF_INET6) return false;
  const auto& in6 = reinterpret_cast<const sockaddr_in6&>(storage);
  out.address = wire::IpAddress::from_v6(&in6.sin6_addr);
  out.port = ntohs(in6.sin6_port);
  out.is_v6_socket = true;
  out.has_address = !(out.address == wire::IpAddress{}) && !(out.address == wire::IpAddress::from_v4(0));
  return true;
}

sockaddr_in6 sockaddr_v6(const wire::IpAddress& address, int ifindex) {
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  std::memcpy(&in6.sin6_addr, address.bytes.data(), 16);
  const bool is_link_local = address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
  if (is_link_local) in6.sin6_scope_id = static_cast<uint32_t>(ifindex);
  return in6;
}

int bind_any_port(int fd, const wire::IpAddress& address, bool is_v6_socket, int ifindex) {
  if (!is_v6_socket) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = address.v4();
    return sys::bind(fd, &in, sizeof in);
  }
  const sockaddr_in6 in6 = sockaddr_v6(address, ifindex);
  return sys::bind(fd, &in6, sizeof in6);
}

/// Reserves (source, a free port) with the kernel, now and not at the kernel's own connect().
bool reserve_port(int fd, const wire::IpAddress& source, Endpoint& local, int ifindex) {
  if (local.port == 0) {
    const int late = option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0);
    const int off = 0;
    if (late != 0) sys::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &off, sizeof off);
    const int result = bind_any_port(fd, source, local.is_v6_socket, ifindex);
    if (late != 0) sys::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    if (result != 0) return false;
    if (!local_endpoint(fd, local)) return false;
  }
  if (!local.has_address) local.address = source;
  return local.port != 0;
}

template <typename Request>
void apply_defaults(const control::TcpSysctls& s, Opening opening, Request& out) {
  apply_sysctls(s, opening, out.config);
  out.send_buffer_bytes = std::max(s.wmem.initial, kInitialSendBuffer);
  out.receive_buffer_bytes = s.rmem.initial;
  out.limits.send_max_bytes = std::max(s.wmem.most, out.send_buffer_bytes);
  out.limits.receive_max_bytes = s.moderate_rcvbuf ? std::max(s.rmem.most, s.rmem.initial) : s.rmem.initial;
  out.limits.notsent_lowat_bytes = s.notsent_lowat_bytes;
}

tto_helper_flow flow_of(const wire::FourTuple& tuple, int ifindex, const wire::IpAddress& next_hop) {
  tto_helper_flow flow{};
  std::copy(tuple.local.bytes.begin(), tuple.local.bytes.end(), flow.local);
  std::copy(tuple.remote.bytes.begin(), tuple.remote.bytes.end(), flow.remote);
  std::copy(next_hop.bytes.begin(), next_hop.bytes.end(), flow.next_hop);
  flow.local_port = tuple.local_port;
  flow.remote_port = tuple.remote_port;
  flow.ifindex = static_cast<uint32_t>(ifindex);
  return flow;
}

/// Has the kernel solicit an IPv6 neighbour from `source`. Its own solicitations, which ttod asks for, come from the
/// interface's link-local address; while there is none (a link that just came up, or one configured without) they are
/// not sent at all, and an entry once started that way is tried again only after a second. So a packet has to ask, and
/// ask first: an empty datagram to the discard port, which waits for the answer in the kernel.
void solicit(const wire::IpAddress& source, const wire::IpAddress& next_hop, int ifindex) {
  constexpr uint16_t kDiscardPort = 9;
  const int fd = sys::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
  if (fd < 0) return;
  const sockaddr_in6 from = sockaddr_v6(source, ifindex);
  sockaddr_in6 to = sockaddr_v6(next_hop, ifindex);
  to.sin6_port = htons(kDiscardPort);
  // Where one of these is refused, the kernel's next own solicitation is waited for.
  if (sys::setsockopt(fd, SOL_SOCKET, kBindToIfindex, &ifindex, sizeof ifindex) == 0 &&
      sys::bind(fd, &from, sizeof from) == 0)
    (void)sys::sendto(fd, nullptr, 0, 0, &to, sizeof to);
  sys::close(fd);
}

/// ttod resolves the next hop of every lease; the answer arrives as a neighbour notification. No lock held on entry.
bool wait_for_neighbor(RunningStack& running, int ifindex, const wire::IpAddress& next_hop, Duration patience,
                       wire::MacAddress& mac) {
  const Instant until = read_clock() + patience;
  while (true) {
    int notification_fd;
    {
      StackLockGuard guard(running.stack->lock());
      running.environment.net.refresh();
      if (running.environment.net.neighbor(ifindex, next_hop, mac)) return true;
      notification_fd = running.environment.net.notification_fd();
    }
    const Duration left = until - read_clock();
    if (left <= Duration{}) return false;
    // Another thread may take the notification off the socket: look again soon in any case.
    const Duration nap = std::min(left, milliseconds(5));
    timespec t{0, static_cast<long>(nap.ns)};
    pollfd fd{notification_fd, POLLIN, 0};
    sys::ppoll(&fd, 1, &t, nullptr);
  }
}

Duration neighbor_patience(int placeholder) {
  const bool is_nonblocking = (sys::fcntl(placeholder, F_GETFL) & O_NONBLOCK) != 0;
  return is_nonblocking ? kNeighborPatienceNonblocking : kNeighborPatience;
}

/// Takes ttod's word for the next hop where we have none.
void learn_mac(KernelEnvironment::Resolved& resolved, const wire::MacAddress& mac) {
  if (resolved.has_mac || mac == wire::MacAddress{}) return;
  resolved.hop.headers.destination_mac = mac;
  resolved.has_mac = true;
}

/// A tuple whose port ttod reserves: the placeholder stays unbound. kCount, or why not. No lock held on entry.
Counter lease(RunningStack& running, const Runtime::Connect& wish, KernelEnvironment::Resolved& resolved,
              Stack::ConnectRequest& out) {
  StackLockGuard guard(running.stack->lock());
  KernelEnvironment& environment = running.environment;
  const control::LeaseTarget target{resolved.hop.source, wish.destination, resolved.next_hop_address,
                                    wish.destination_port, resolved.hop.ifindex};
  const auto leased = environment.lease_tuple(target, read_clock());
  if (!leased.has_value())
    return environment.helper.is_connected() ? reason_of(leased.error()) : Counter::kernel_no_helper;
  const control::LeasedTuple& tuple = leased->tuple;
  out.tuple = {target.local, target.remote, tuple.local_port, target.remote_port};
  out.grant_id = tuple.grant_id;
  out.continues = tuple.was_used;
  out.next_seq = tuple.next_seq;
  learn_mac(resolved, leased->mac);
  running.stack->counters().add_owned(Counter::connection_leased);
  return Counter::kCount;
}

/// The placeholder's own port, bound now if it is not yet. Same return.
Counter open_flow(RunningStack& running, int placeholder, Endpoint& local, const Runtime::Connect& wish,
                  KernelEnvironment::Resolved& resolved, Stack::ConnectRequest& out) {
  if (!reserve_port(placeholder, resolved.hop.source, local, resolved.hop.ifindex)) return Counter::kernel_in_use;
  out.tuple = {local.address, wish.destination, local.port, wish.destination_port};
  const tto_helper_flow flow = flow_of(out.tuple, resolved.hop.ifindex, resolved.next_hop_address);
  tto_helper_grant grant{};
  StackLockGuard guard(running.stack->lock());
  control::HelperClient& helper = running.environment.helper;
  helper.flush();  // what was released may be what is asked for
  if (!helper.open_flows({&flow, 1}, {&placeholder, 1}, {&grant, 1})) return Counter::kernel_no_helper;
  if (grant.grant_id == 0) return reason_of(static_cast<tto_helper_refusal>(grant.reason));
  out.grant_id = grant.grant_id;
  wire::MacAddress mac;
  std::copy(grant.next_hop_mac, grant.next_hop_mac + 6, mac.bytes.begin());
  learn_mac(resolved, mac);
  return Counter::kCount;
}

}  // namespace

stats::Counter Runtime::prepare_connect(Stack& stack, int placeholder, const Connect& wish, Stack::ConnectRequest& out) {
  RunningStack* running = the_running_stack();
  if (running == nullptr || running->stack.get() != &stack) return Counter::kernel_no_helper;
  KernelEnvironment& environment = running->environment;
  Endpoint local;
  local.is_v6_socket = wish.is_v6_socket;
  if (!wish.is_unbound && !local_endpoint(placeholder, local)) return Counter::kernel_bad_socket;
  KernelEnvironment::RouteQuery query{wish.destination, local.has_address ? &local.address : nullptr, 0, 0, 0};
  if (wish.has_options) {
    query.oif = option(placeholder, SOL_SOCKET, kBindToIfindex, 0);
    query.mark = static_cast<uint32_t>(option(placeholder, SOL_SOCKET, SO_MARK, 0));
    query.tos = static_cast<uint8_t>(wish.destination.is_v4() ? option(placeholder, IPPROTO_IP, IP_TOS, 0)
                                                              : option(placeholder, IPPROTO_IPV6, IPV6_TCLASS, 0));
  }
  KernelEnvironment::Resolved resolved;
  bool must_solicit;
  {
    StackLockGuard guard(stack.lock());
    environment.net.refresh();
    const auto answer = environment.resolve(query);
    if (!answer.has_value()) return answer.error();
    resolved = *answer;
    must_solicit = !resolved.has_mac && !resolved.next_hop_address.is_v4() &&
                   !environment.net.has_link_local(resolved.hop.ifindex);
    apply_defaults(environment.sysctls.get(read_clock()), Opening::kActive, out);
  }
  if (must_solicit) solicit(resolved.hop.source, resolved.next_hop_address, resolved.hop.ifindex);
  out.bound_ifindex = query.oif;
  Counter refusal = Counter::kCount;
  if (local.port == 0) refusal = lease(*running, wish, resolved, out);
  // At ttod's limit of ports for one user there are still those that the process can have itself.
  if (local.port != 0 || refusal == Counter::kernel_limit)
    refusal = open_flow(*running, placeholder, local, wish, resolved, out);
  if (refusal != Counter::kCount) return refusal;
  wire::MacAddress& mac = resolved.hop.headers.destination_mac;
  if (!resolved.has_mac && !wait_for_neighbor(*running, resolved.hop.ifindex, resolved.next_hop_address,
                                              neighbor_patience(placeholder), mac)) {
    StackLockGuard guard(stack.lock());
    environment.release_flow({out.tuple, resolved.hop.headers.vlan}, resolved.hop.ifindex, out.grant_id, 0);
    environment.helper.flush();
    return Counter::kernel_no_neighbor;
  }
  out.next_hop = resolved.hop;
  return Counter::kCount;
}

stats::Counter Runtime::prepare_listen(Stack& stack, int placeholder, Stack::ListenRequest& out) {
  RunningStack* running = the_running_stack();
  if (running == nullptr || running->stack.get() != &stack) return Counter::kernel_no_helper;
  KernelEnvironment& environment = running->environment;
  environment.net.refresh();
  environment.helper.flush();
  const auto grant = environment.helper.listen(placeholder);
  if (!grant.has_value()) {
    return environment.helper.is_connected() ? reason_of(grant.error()) : Counter::kernel_no_helper;
  }
  if (grant->grant_id == 0) return reason_of(static_cast<tto_helper_refusal>(grant->reason));
  apply_defaults(environment.sysctls.get(read_clock()), Opening::kPassive, out);
  out.grant_id = grant->grant_id;
  return Counter::kCount;
}

}  // namespace tto::stack
