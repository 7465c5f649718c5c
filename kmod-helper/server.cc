#include "kmod-helper/server.hh"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "kmod-helper/log.hh"
#include "kmod-helper/netns.hh"
#include "kmod-helper/orphans.hh"
#include "kmod-helper/self_test.hh"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace ttod {
namespace {

constexpr int kIdleMs = 500;  // how often put-off work is looked at
constexpr int kBusyMs = 5;    // while there is some
constexpr int kBacklog = 128;
constexpr int kLastTurns = 1000;
constexpr size_t kMaxClosesPending = 4096;              // of one user, before he gets no new session
constexpr size_t kMaxWorkPending = 512;                 // the same
constexpr size_t kMaxAudits = 4096;                     // users
constexpr auto kThreadLimit = std::chrono::seconds(2);  // how long a client may keep a thread from answering him
constexpr auto kClosingLimit = std::chrono::milliseconds(200);  // how long an answer waits for his descriptors

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

Fd pidfd_of(int socket, int pid) {
  int fd = -1;
  socklen_t bytes = sizeof fd;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &bytes) == 0) return Fd(fd);
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // before 6.5; the socket still shows the hang-up
}

}  // namespace

const char* refusal_text(tto_helper_refusal refusal) {
  switch (refusal) {
    case TTO_REFUSED_NONE:
      return "granted";
    case TTO_REFUSED_VERSION:
      return "protocol version";
    case TTO_REFUSED_MALFORMED:
      return "malformed message";
    case TTO_REFUSED_POLICY:
      return "policy";
    case TTO_REFUSED_LIMIT:
      return "a limit is reached";
    case TTO_REFUSED_NO_NIC:
      return "no accelerated interface";
    case TTO_REFUSED_FILTERED:
      return "firewall or tc rules on the path";
    case TTO_REFUSED_FOREIGN_XDP:
      return "another XDP program is attached";
    case TTO_REFUSED_BAD_SOCKET:
      return "the socket is not what it should be";
    case TTO_REFUSED_IN_USE:
      return "in use";
    case TTO_REFUSED_NO_RESOURCE:
      return "out of a resource";
    case TTO_REFUSED_NO_ROUTE:
      return "no route";
    case TTO_REFUSED_NOT_OWNER:
      return "not of this session";
  }
  return "unknown";
}

Server::Server(const Policy& policy)
    : policy_(policy),
      ports_(steering_, policy.port),
      leases_(steering_, policy),
      pool_(*new WorkPool),  // its threads outlive the server
      handovers_(pool_, leases_) {}

Server::~Server() { close(); }

void Server::open() {
  steering_.open(policy_.pin_dir);
  numbers_.sweep();
  ports_.open();
  ports_.maintain();
  start_closer();
  if (closes_done_fd() < 0) throw_errno("eventfd");
  loop_.watch(closes_done_fd(), [this](uint32_t) { on_closes_done(); });
  pool_.start();
  loop_.watch(pool_.done_fd(), [this](uint32_t) { pool_.take_done(); });
  loop_.watch(leases_.watch_fd(), [this](uint32_t) { recheck(false); });
}

void Server::self_test() {
  const auto need = [](bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("self-test: ") + what);
  };
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  need(netns_cookie_of_socket(socket.get()) != 0, "the kernel tells no namespace cookie (SO_NETNS_COOKIE)");
  need(static_cast<bool>(netns_of_socket(socket.get())), "cannot learn the namespace of a socket (SIOCGSKNS)");
  std::optional<ReadyPort> port = ports_.take({});
  need(port.has_value(), "cannot make a virtual port");
  const int active = ports_.activate(*port, UINT64_MAX, 1);
  tto_flow_key key{};  // nic 0 is nobody's
  const bool is_entered = active == 0 && steering_.add_flow(key, port->slot) == 0;
  const bool has_device = steering_.slot_has_device(port->slot);
  const uint32_t slot = port->slot;
  port.reset();
  steering_.remove_flow(key, slot);
  ports_.give_back(slot);
  {
    NetnsScope inside(ports_.netns().get());
    SteerLink link;
    constexpr uint32_t kLoopbackIfindex = 1;
    const bool is_attached = steering_.attach_steer(key.nic, kLoopbackIfindex, XdpMode::kGeneric, link) == 0;
    steering_.detach_steer(key.nic, link);
    need(is_attached, "cannot attach the steering program");
  }
  tto_flow_value left{};
  need(is_entered && has_device, "cannot enter a port into the maps");
  need(!steering_.find_flow(key, left), "an entry outlived its port");
  self_test_handover();
  LOG_NOTICE("self-test: namespaces, virtual port, AF_XDP socket, programs, maps, restored sockets are good");
}

void Server::open_socket() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& path = policy_.socket_path;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("socket path too long: " + path);
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);

  Fd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (probe && ::connect(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0)
    throw std::runtime_error("another ttod serves " + path);
  ::unlink(path.c_str());
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) throw_errno("socket");
  if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) throw_errno("bind " + path);
  if (::chmod(path.c_str(), policy_.socket_mode) != 0) throw_errno("chmod " + path);
  if (::listen(listener_.get(), kBacklog) != 0) throw_errno("listen " + path);
  loop_.watch(listener_.get(), [this](uint32_t) { on_connection(); });
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  LOG_NOTICE("serving %s", path.c_str());
}

/// Out of descriptors: the spare one serves to close the connection that waits, or the loop would spin on it.
void Server::turn_away() {
  LOG_ERROR("out of descriptors: a client is turned away");
  spare_.reset();
  Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  spare_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

void Server::on_connection() {
  Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    if (errno == EMFILE || errno == ENFILE) turn_away();
    return;
  }
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) return;
  const Peer peer{credentials.pid, credentials.uid, credentials.gid};
  uint32_t of_user = 0, of_process = 0;
  for (const auto& [id, client] : clients_) {
    of_user += client.session.peer().uid == peer.uid;
    of_process += client.session.peer().pid == peer.pid;
  }
  if (closes_pending(peer.uid) > kMaxClosesPending || pool_.pending(peer.uid) > kMaxWorkPending ||
      of_user >= policy_.limits.sessions_per_user || of_process >= policy_.limits.sessions_per_process) {
    LOG_LIMITED(kNotice, "pid %d uid %u: too many sessions", peer.pid, peer.uid);
    return;
  }
  const uint32_t id = next_session_++;
  const int fd = socket.get();
  Fd pidfd = pidfd_of(fd, peer.pid);
  Client made{Session(*this, id, peer, std::move(socket)), std::move(pidfd), {}, {}, {}, {}};
  const auto at = clients_.emplace(id, std::move(made)).first;
  loop_.watch(fd, [this, id](uint32_t) { on_message(id); });
  // A forked child may hold the socket longer than the process lives.
  if (at->second.pidfd) loop_.watch(at->second.pidfd.get(), [this, id](uint32_t) { end_session(id); });
  LOG_DEBUG("session %u: pid %d uid %u", id, peer.pid, peer.uid);
}

void Server::on_message(uint32_t id) {
  go_on(id, [](Session& session) { return session.on_readable(); });
}

/// Lets the session do something, ends it if it says so, and reads no more from it while it waits for a thread.
void Server::go_on(uint32_t id, const std::function<bool(Session&)>& with) {
  const auto at = clients_.find(id);
  if (at == clients_.end()) return;
  const bool was_waiting = at->second.answer_due.has_value();
  bool goes_on = false;
  try {
    goes_on = with(at->second.session);
  } catch (const std::exception& e) {  // out of descriptors or memory: this client's loss, not everybody's
    LOG_LIMITED(kError, "session %u: %s", id, e.what());
  }
  if (!goes_on) {
    end_session(id);
    return;
  }
  const bool is_waiting = at->second.session.is_waiting();
  if (is_waiting && !was_waiting) {
    at->second.answer_due = Clock::now() + kThreadLimit;
    loop_.forget(at->second.session.fd());
  } else if (!is_waiting && was_waiting) {
    at->second.answer_due.reset();
    loop_.watch(at->second.session.fd(), [this, id](uint32_t) { on_message(id); });
  }
}

void Server::end_overdue(Clock::time_point now) {
  std::vector<uint32_t> overdue, closing;
  for (auto& [id, client] : clients_) {
    if (client.closing && client.answer_due && *client.answer_due - now < kThreadLimit - kClosingLimit)
      closing.push_back(id);
    const bool is_overdue =
        (client.answer_due && *client.answer_due < now) || (client.recheck_due && *client.recheck_due < now);
    if (!is_overdue || !pool_.is_at_work(id)) continue;  // who only waits for others of his user is not to blame
    client.session.give_up("a socket of it does not answer");
    overdue.push_back(id);
  }
  for (const uint32_t id : overdue) end_session(id);
  for (const uint32_t id : closing) answer_closed(id, true);  // something else of his takes its time
}

void Server::recheck(bool also_others) {
  const auto is_busy = [this](uint32_t session) {
    const auto at = clients_.find(session);
    return at != clients_.end() && at->second.recheck_due.has_value();
  };
  for (auto& [session, due] : leases_.take_rechecks(also_others, is_busy)) {
    const auto at = clients_.find(session);
    if (at == clients_.end()) continue;
    at->second.recheck_due = Clock::now() + kThreadLimit;
    const auto lost = std::make_shared<std::vector<uint64_t>>();
    pool_.submit(
        worker_for(session, at->second.session.peer()),
        [rechecks = std::move(due.of_session), lost] {
          for (const Leases::Recheck& one : rechecks)
            if (!one.is_held()) lost->push_back(one.grant);
        },
        [this, id = session, lost] {
          const auto client = clients_.find(id);
          if (client == clients_.end()) return;
          client->second.recheck_due.reset();
          for (const uint64_t grant : *lost) leases_.end_given_up(id, grant);
          go_on(id, [](Session& session) { return session.answer_release(); });
          answer_closed(id, false);
          recheck(false);  // what became due meanwhile
        });
  }
}

void Server::on_closes_done() {
  eventfd_t count = 0;
  ::eventfd_read(closes_done_fd(), &count);
  std::vector<uint32_t> deaf;
  std::vector<uint32_t> closing;
  for (auto& [id, client] : clients_) {
    if (!client.session.answer_release()) deaf.push_back(id);
    if (client.closing) closing.push_back(id);
  }
  for (const uint32_t id : deaf) end_session(id);
  for (const uint32_t id : closing) answer_closed(id, false);
}

/// A socket is the client's alone when he is told that it is live: his close() sends the FIN, and his linger holds.
void Server::answer_closed(uint32_t id, bool at_once) {
  const auto at = clients_.find(id);
  if (at == clients_.end() || !at->second.closing || (!at_once && !await_closes(id))) return;
  const HandoverAnswer answer = *std::exchange(at->second.closing, std::nullopt);
  go_on(id, [&](Session& session) { return session.on_handover_answer(answer); });
}

void Server::end_session(uint32_t id) {
  const auto at = clients_.find(id);
  if (at == clients_.end()) return;
  Client& client = at->second;
  const Peer& peer = client.session.peer();
  const bool is_plain = client.session.why() == "closed by the client";
  if (is_plain) {
    LOG_DEBUG("session %u (pid %d uid %u) ends", id, peer.pid, peer.uid);
  } else {
    LOG_LIMITED(kNotice, "session %u (pid %d uid %u) ends: %s", id, peer.pid, peer.uid, client.session.why().c_str());
  }
  for (const auto& [cookie, port] : client.ports) {
    const size_t reset = reset_orphans(steering_, *port.netns, port.slot, port.region.get());
    if (reset > 0) LOG_LIMITED(kInfo, "session %u (pid %d): %zu connections reset", id, peer.pid, reset);
  }
  // First nothing of this client is steered or sent any more, then its entries go.
  for (auto& [cookie, port] : client.ports) {
    ports_.silence(port.slot);
    port.xsk.reset();  // or its queue would stay taken
  }
  pool_.cancel(id);
  handovers_.release_all(id);
  leases_.release_all(id);
  for (const auto& [cookie, port] : client.ports) ports_.give_back(port.slot);
  loop_.forget(client.session.fd());
  if (client.pidfd) loop_.forget(client.pidfd.get());
  clients_.erase(at);
}

ServedNamespace* Server::serve_namespace(int socket, uint32_t uid) {
  const uint64_t cookie = netns_cookie_of_socket(socket);
  if (cookie == 0) return nullptr;
  const auto known = namespaces_.find(cookie);
  if (known != namespaces_.end()) return known->second.get();
  Fd netns = netns_of_socket(socket);
  if (!netns) return nullptr;
  auto made = std::make_unique<ServedNamespace>(steering_, numbers_, policy_, std::move(netns), cookie, uid);
  made->open();
  loop_.watch(made->notification_fd(), [this, cookie](uint32_t) { on_namespace_change(cookie); });
  return namespaces_.emplace(cookie, std::move(made)).first->second.get();
}

void Server::on_namespace_change(uint64_t cookie) {
  const auto at = namespaces_.find(cookie);
  if (at == namespaces_.end()) return;
  const ServedNamespace::Changes changes = at->second->refresh();
  if (!changes.nics_or_addresses) return;
  leases_.follow(*at->second);
  tell_clients(cookie, changes.events);
}

void Server::tell_clients(uint64_t cookie, const std::vector<tto_helper_event>& events) {
  if (events.empty()) return;
  std::vector<uint32_t> deaf;
  for (auto& [id, client] : clients_) {
    if (client.ports.count(cookie) == 0) continue;
    for (const tto_helper_event& event : events)
      if (!client.session.send_event(event)) {
        deaf.push_back(id);
        break;
      }
  }
  for (const uint32_t id : deaf) end_session(id);
}

void Server::forget_unused_namespaces() {
  for (auto at = namespaces_.begin(); at != namespaces_.end();) {
    bool is_used = false;
    for (const auto& [id, client] : clients_) is_used = is_used || client.ports.count(at->first) != 0;
    if (is_used) {
      ++at;
      continue;
    }
    loop_.forget(at->second->notification_fd());
    at = namespaces_.erase(at);
  }
}

tto_helper_refusal Server::check_limits(const Peer& peer, uint64_t bytes) const {
  const Limits& l = policy_.limits;
  uint32_t of_user = 0, of_process = 0;
  uint64_t pinned = bytes;
  for (const auto& [id, client] : clients_) {
    const auto ports = static_cast<uint32_t>(client.ports.size());
    if (client.session.peer().pid == peer.pid) of_process += ports;
    if (client.session.peer().uid != peer.uid) continue;
    of_user += ports;
    for (const auto& [cookie, port] : client.ports) pinned += port.bytes;
  }
  const bool is_within =
      of_user < l.ports_per_user && of_process < l.ports_per_process && pinned <= l.pinned_mib_per_user << 20;
  return is_within ? TTO_REFUSED_NONE : TTO_REFUSED_LIMIT;
}

void Server::audit(const Peer& peer, const char* what, tto_helper_refusal refusal) {
  if (audits_.size() > kMaxAudits) audits_.clear();
  LogLimit& limit = audits_[peer.uid];
  if (!limit.allows()) return;
  if (const uint32_t left_out = limit.take_left_out(); left_out > 0)
    LOG_NOTICE("refused: %u requests of uid %u more", left_out, peer.uid);
  LOG_NOTICE("refused: %s of pid %d uid %u: %s", what, peer.pid, peer.uid, refusal_text(refusal));
}

SessionHost::PortAnswer Server::open_port(uint32_t session, const Peer& peer, const tto_helper_open_port& wish,
                                          Fd socket) {
  PortAnswer answer;
  const auto refuse = [&](tto_helper_refusal refusal) {
    audit(peer, "a port", refusal);
    answer.refusal = refusal;
    return std::move(answer);
  };
  if (!is_tcp_socket_of(socket.get(), peer.uid)) return refuse(TTO_REFUSED_BAD_SOCKET);
  const uint32_t frames = wish.frame_count != 0 ? wish.frame_count : policy_.port.frames;
  const uint32_t connections = wish.connection_count != 0 ? wish.connection_count : policy_.port.connections;
  const uint64_t bytes = ports_.bytes_of(frames, connections);
  if (bytes == 0 || frames < 256 || frames > policy_.limits.frames_per_port) return refuse(TTO_REFUSED_LIMIT);
  const tto_helper_refusal limit = check_limits(peer, bytes);
  if (limit != TTO_REFUSED_NONE) return refuse(limit);
  ServedNamespace* netns = serve_namespace(socket.get(), peer.uid);
  if (netns == nullptr) return refuse(TTO_REFUSED_BAD_SOCKET);
  if (netns->nics().empty()) return refuse(TTO_REFUSED_NO_NIC);
  Client& client = clients_.at(session);
  if (client.ports.count(netns->cookie()) != 0) return refuse(TTO_REFUSED_LIMIT);  // a second one: another session

  std::optional<ReadyPort> ready = ports_.take(wish);
  if (!ready) return refuse(TTO_REFUSED_NO_RESOURCE);
  if (ports_.set_mode(*ready, netns->port_mode()) != 0 ||
      ports_.activate(*ready, netns->cookie(), policy_.limits.flows_per_process) != 0) {
    ports_.give_back(ready->slot);
    return refuse(TTO_REFUSED_NO_RESOURCE);
  }
  set_busy_poll(ready->xsk.get(), wish.busy_poll_us);
  answer.port = ready->description;
  answer.port.busy_poll = wish.busy_poll_us != 0 ? 1 : 0;
  for (const auto& [ifindex, nic] : netns->nics())
    if (answer.port.nic_count < TTO_HELPER_MAX_NICS) answer.port.nics[answer.port.nic_count++] = netns->describe(nic);
  Port port;
  port.slot = ready->slot;
  port.bytes = bytes;
  port.netns = netns;
  port.region.reset(::dup(ready->region.get()));
  port.xsk.reset(::dup(ready->xsk.get()));
  client.ports.emplace(netns->cookie(), std::move(port));
  answer.xsk = std::move(ready->xsk);
  answer.region = std::move(ready->region);
  LOG_INFO("pid %d uid %u: port %u (%u frames)", peer.pid, peer.uid, ready->slot, frames);
  return answer;
}

/// The session's port in the namespace that the placeholder belongs to.
Server::Port* Server::port_for(uint32_t session, const Peer& peer, const Fd& placeholder, tto_helper_refusal& refusal) {
  refusal = TTO_REFUSED_BAD_SOCKET;
  if (!is_tcp_socket_of(placeholder.get(), peer.uid)) return nullptr;
  auto& ports = clients_.at(session).ports;
  const auto at = ports.find(netns_cookie_of_socket(placeholder.get()));
  if (at == ports.end()) return nullptr;
  refusal = TTO_REFUSED_NONE;
  return &at->second;
}

/// Asks on a thread what the sockets are.
std::optional<SessionHost::Sockets> Server::inspect(uint32_t session, std::vector<Fd> fds) {
  const auto sockets = std::make_shared<Sockets>();
  for (Fd& fd : fds) sockets->push_back({std::move(fd), std::nullopt});
  pool_.submit(
      worker_for(session, clients_.at(session).session.peer()),
      [sockets] {
        for (ClientSocket& socket : *sockets) socket.bound = read_placeholder(socket.fd.get());
      },
      [this, session, sockets] {
        go_on(session, [&](Session& asked) { return asked.on_inspected(std::move(*sockets)); });
      });
  return std::nullopt;
}

tto_helper_grant Server::listen(uint32_t session, const Peer& peer, ClientSocket placeholder) {
  tto_helper_grant grant{};
  tto_helper_refusal refusal = TTO_REFUSED_NONE;
  Port* port = port_for(session, peer, placeholder.fd, refusal);
  grant.reason = refusal;
  if (port != nullptr)
    grant = leases_.listen({session, port->slot, peer.uid, peer.gid, peer.pid}, *port->netns, std::move(placeholder));
  if (grant.grant_id == 0) audit(peer, "a listen entry", static_cast<tto_helper_refusal>(grant.reason));
  return grant;
}

tto_helper_grant Server::open_flow(uint32_t session, const Peer& peer, const tto_helper_flow& flow,
                                   ClientSocket placeholder) {
  tto_helper_grant grant{};
  tto_helper_refusal refusal = TTO_REFUSED_NONE;
  Port* port = port_for(session, peer, placeholder.fd, refusal);
  grant.reason = refusal;
  if (port != nullptr)
    grant = leases_.open_flow({session, port->slot, peer.uid, peer.gid, peer.pid}, *port->netns, std::move(placeholder),
                              flow);
  if (grant.grant_id == 0) audit(peer, "a flow entry", static_cast<tto_helper_refusal>(grant.reason));
  return grant;
}

std::optional<SessionHost::HandoverAnswer> Server::begin_handover(uint32_t session, const Peer& peer,
                                                                  const tto_helper_handover& request, Fd placeholder) {
  HandoverAnswer answer;
  const Port* port = port_for(session, peer, placeholder, answer.refusal);
  if (port != nullptr) {
    const auto id = handovers_.begin(
        worker_for(session, peer), {session, port->slot, peer.uid, peer.gid, peer.pid}, *port->netns, request,
        std::move(placeholder),
        [this, session](HandoverAnswer later) {
          if (later.refusal != TTO_REFUSED_NONE && clients_.count(session) != 0)
            audit(clients_.at(session).session.peer(), "a handover", later.refusal);
          go_on(session, [&](Session& asked) { return asked.on_handover_answer(later); });
        },
        answer.refusal);
    if (id) return std::nullopt;
  }
  audit(peer, "a handover", answer.refusal);
  return answer;
}

std::optional<SessionHost::HandoverAnswer> Server::end_handover(uint32_t session, const Peer& peer,
                                                                uint64_t handover_id, uint32_t flags) {
  HandoverAnswer answer;
  answer.refusal = handovers_.end(worker_for(session, peer), handover_id, flags, [this, session](HandoverAnswer later) {
    const auto at = clients_.find(session);
    if (at == clients_.end()) return;
    at->second.closing = later;
    answer_closed(session, false);
  });
  if (answer.refusal == TTO_REFUSED_NONE) return std::nullopt;
  audit(peer, "the end of a handover", answer.refusal);
  return answer;
}

void Server::inject(uint32_t session, uint64_t handover_id, std::span<uint8_t> packet) {
  handovers_.inject(session, handover_id, packet);
}

tto_helper_refusal Server::lease(uint32_t session, const Peer& peer, const tto_helper_lease& wish,
                                 tto_helper_leased& out) {
  tto_helper_refusal refusal = TTO_REFUSED_BAD_SOCKET;
  for (const auto& [cookie, port] : clients_.at(session).ports)
    if (port.slot == wish.slot)
      refusal = leases_.lease({session, port.slot, peer.uid, peer.gid, peer.pid}, *port.netns, wish, out);
  if (refusal != TTO_REFUSED_NONE) audit(peer, "leases", refusal);
  return refusal;
}

void Server::release(uint32_t session, const tto_helper_release_item& item) {
  if (item.grant_id != 0) {
    leases_.release(session, item.grant_id);
    return;
  }
  for (const auto& [cookie, port] : clients_.at(session).ports)
    if (leases_.release_accepted(port.slot, *port.netns, item.flow, item.iss)) return;
}

void Server::upkeep(Clock::time_point now) {
  ports_.sweep_ended();
  forget_unused_namespaces();
  numbers_.maintain();
  recheck(true);
  handovers_.expire(now);
  end_overdue(now);
  for (const auto& [cookie, netns] : namespaces_) netns->maintain(now);
}

void Server::run() {
  Clock::time_point next_upkeep{};
  bool is_more_due = true;
  while (!stopping_) {
    const int events = loop_.run_once(is_more_due ? kBusyMs : kIdleMs);
    // Making a port ahead takes milliseconds: only while nobody is asking for anything, but some time at last.
    const Clock::time_point now = Clock::now();
    const bool is_upkeep_due = now >= next_upkeep;
    try {
      for (const auto& [cookie, netns] : namespaces_) tell_clients(cookie, netns->take_mode_events());
      is_more_due = events == 0 || is_upkeep_due ? ports_.maintain() : true;
      if (!is_upkeep_due) continue;
      next_upkeep = now + std::chrono::milliseconds(kIdleMs);
      upkeep(now);
    } catch (const std::exception& e) {  // out of descriptors or memory, which clients may bring about
      LOG_ERROR("put off: %s", e.what());
      is_more_due = false;
    }
  }
  // Whoever ended before us is not left behind.
  for (int turn = 0; turn < kLastTurns && loop_.run_once(0) > 0; ++turn) continue;
}

/// With clients alive their ports, entries and pinned links stay: connections go on, and the next ttod takes over.
void Server::close() {
  if (listener_) {
    loop_.forget(listener_.get());
    listener_.reset();
    ::unlink(policy_.socket_path.c_str());
  }
  if (clients_.empty()) {
    namespaces_.clear();  // detaches
    if (numbers_.left_count() == 0) remove_pins(policy_.pin_dir);
    return;
  }
  LOG_NOTICE("%zu clients go on without a helper", clients_.size());
  for (const auto& [cookie, netns] : namespaces_) netns->leave();
}

}  // namespace ttod
