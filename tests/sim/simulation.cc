#include "tests/sim/simulation.hh"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>

namespace tto::sim {
namespace {

using stack::PairConfig;

constexpr uint64_t kMostSteps = 400'000;
constexpr Duration kMostTime = seconds(4LL * 3600);
constexpr uint16_t kServerPort = 80;

uint8_t byte_at(uint64_t position, int from) {
  return static_cast<uint8_t>(((position + static_cast<uint64_t>(from) * 77) * 0x9e3779b97f4a7c15u) >> 56);
}

template <typename T>
T one_of(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[rng.below(values.size())];
}

bool chance(Rng& rng, uint32_t percent) { return rng.below(100) < percent; }

const char* name(Ending e) {
  switch (e) {
    case Ending::kGraceful: return "graceful";
    case Ending::kCloseOnly: return "close";
    case Ending::kRude: return "rude";
    case Ending::kAbort: return "abort";
  }
  return "?";
}

}  // namespace

PairConfig Simulation::link_of(Rng& rng, uint64_t seed) {
  PairConfig c;
  c.seed = seed;
  c.mtu = one_of<uint32_t>(rng, {1500, 1500, 1500, 1280, 9000, 600});
  c.is_v6 = c.mtu >= 1280 && chance(rng, 30);
  c.frames = one_of<uint32_t>(rng, {700, 1024, 1536});
  c.connections = 16;
  c.delay = one_of(rng, {microseconds(10), microseconds(200), milliseconds(2), milliseconds(30), milliseconds(150)});
  c.bytes_per_second = one_of<uint64_t>(rng, {0, 0, 200'000, 10'000'000});
  if (chance(rng, 75)) {
    c.faults.loss = one_of(rng, {0.0, 0.005, 0.02, 0.1, 0.2});
    c.faults.duplicate = one_of(rng, {0.0, 0.01, 0.1});
    c.faults.corrupt = one_of(rng, {0.0, 0.005, 0.03});
    c.faults.reorder = one_of(rng, {0.0, 0.02, 0.2});
    c.faults.reorder_delay = one_of(rng, {microseconds(100), milliseconds(3), milliseconds(60)});
  }
  return c;
}

Simulation::Simulation(uint64_t seed) : seed_(seed), rng_(seed), pair_(link_of(rng_, seed)) {
  // Any time, so that sequence numbers and timestamps wrap wherever they like.
  pair_.now = pair_.now + nanoseconds(static_cast<int64_t>(rng_.below(uint64_t{1} << 52)));
  draw_engine();
  listener_ = pair_.listen(kServerPort, 16);
  const bool is_tiny = pair_.engine.receive_buffer_bytes < 4096;
  conversations_.resize(1 + rng_.below(3));
  for (size_t i = 0; i < conversations_.size(); ++i) {
    Conversation& c = conversations_[i];
    c.port = static_cast<uint16_t>(40000 + i);
    for (End& e : c.end) {
      e.ending = chance(rng_, 60) ? Ending::kGraceful : one_of(rng_, {Ending::kCloseOnly, Ending::kRude, Ending::kAbort});
      const uint64_t most = is_tiny ? 3000 : one_of<uint64_t>(rng_, {10, 3000, 100'000, 300'000});
      e.total = chance(rng_, 15) ? 0 : rng_.below(most + 1);
    }
    // One of them must close first.
    if (c.end[0].ending == Ending::kCloseOnly && c.end[1].ending == Ending::kCloseOnly) c.end[0].ending = Ending::kGraceful;
    c.end[0].host = &pair_.client;
    c.end[1].host = &pair_.server;
  }
}

void Simulation::draw_engine() {
  tcp::ConnectionConfig& e = pair_.engine;
  e.timestamps = chance(rng_, 70);
  e.sack = chance(rng_, 75);
  e.window_scaling = chance(rng_, 75);
  e.ecn = chance(rng_, 30);
  e.receive_window_scale = static_cast<uint8_t>(rng_.below(15));
  e.receive_buffer_bytes = one_of<uint32_t>(rng_, {131072, 131072, 65536, 16384, 4096, 500});
  e.nodelay = chance(rng_, 30);
  e.congestion = chance(rng_, 70) ? tcp::ConnectionConfig::Congestion::kCubic : tcp::ConnectionConfig::Congestion::kReno;
  e.syn_retries = e.synack_retries = 15;  // a bad link is no dead one
  e.retries2 = e.orphan_retries = 60;
  e.keepalive = chance(rng_, 20);
  e.keepalive_idle = seconds(10);
  e.keepalive_probes = 60;  // nor is an idle one
  e.slow_start_after_idle = chance(rng_, 70);
}

void Simulation::fail(const std::string& what) {
  if (failure_.empty()) failure_ = what;
}

void Simulation::open(Conversation& c) {
  c.end[0].socket = pair_.connect(c.port, kServerPort);
  if (c.end[0].socket == nullptr) fail("connect: no room");
}

void Simulation::accept_all() {
  while (socket::StreamSocket* s = listener_->accept()) {
    for (Conversation& c : conversations_) {
      if (s->tuple().remote_port != c.port) continue;
      // The client may have given up, and its late SYN opened a connection that nobody wants.
      if (c.end[1].socket != nullptr || c.end[1].is_over) break;
      c.end[1].socket = s;
      s = nullptr;
      break;
    }
    if (s != nullptr) s->close(pair_.now);
  }
}

// --- the applications ------------------------------------------------------------------------------------------------

void Simulation::let_go(End& e, bool abort) {
  if (abort) {
    e.socket->abort(pair_.now);
  } else {
    e.socket->close(pair_.now);
  }
  e.socket = nullptr;
  e.is_over = true;
}

bool Simulation::write(End& e, int which) {
  if (e.written >= e.total) return false;
  const size_t most = std::min<uint64_t>(sizeof buffer_, e.total - e.written);
  const size_t n = chance(rng_, 30) ? 1 + rng_.below(std::min<size_t>(most, 50)) : 1 + rng_.below(most);
  for (size_t i = 0; i < n; ++i) buffer_[i] = byte_at(e.written + i, which);
  const ssize_t sent = stack::send_bytes(*e.socket, buffer_, n, pair_.now, chance(rng_, 10) ? MSG_MORE : 0);
  if (sent > 0) e.written += static_cast<uint64_t>(sent);
  if (sent < 0 && sent != -EAGAIN) e.error = static_cast<int>(-sent);
  return sent > 0;
}

bool Simulation::read(End& e, int which) {
  const size_t n = 1 + rng_.below(chance(rng_, 30) ? 100 : sizeof buffer_);
  const ssize_t got = stack::receive_bytes(*e.socket, buffer_, n, pair_.now);
  for (ssize_t i = 0; i < got; ++i) {
    if (buffer_[i] != byte_at(e.read + static_cast<uint64_t>(i), 1 - which)) {
      fail("byte " + std::to_string(e.read + static_cast<uint64_t>(i)) + " is not the one that was written");
      return false;
    }
  }
  if (got > 0) {
    e.read += static_cast<uint64_t>(got);
    bytes_moved_ += static_cast<uint64_t>(got);
  }
  if (got == 0) e.saw_end = true;
  if (got < 0 && got != -EAGAIN) e.error = static_cast<int>(-got);
  return got > 0;
}

/// What the ending asks for now; true if something was done.
bool Simulation::end(End& e) {
  const bool is_through = e.written == e.total && e.saw_end;
  if (e.error != 0 || is_through) {
    let_go(e, false);
    return true;
  }
  if (e.ending == Ending::kGraceful && e.written == e.total && !e.saw_end) {
    if (e.has_shut) return false;
    e.has_shut = true;
    return e.socket->shutdown(SHUT_WR, pair_.now) == 0;
  }
  if (e.ending >= Ending::kRude && (chance(rng_, 2) || (e.written == e.total && chance(rng_, 10)))) {
    let_go(e, e.ending == Ending::kAbort);
    return true;
  }
  return false;
}

void Simulation::tweak(End& e) {
  tcp::Connection& c = e.socket->connection();
  switch (rng_.below(5)) {
    case 0: c.set_nodelay(chance(rng_, 50)); break;
    case 1: c.set_cork(chance(rng_, 30)); break;
    case 2:
      if (pair_.engine.receive_buffer_bytes >= 4096) {
        e.socket->set_receive_buffer(static_cast<uint32_t>(4096 + rng_.below(200'000)));
      }
      break;
    case 3: e.socket->set_send_buffer(static_cast<uint32_t>(4096 + rng_.below(200'000))); break;
    default: c.set_keepalive(chance(rng_, 50), seconds(1 + static_cast<int64_t>(rng_.below(20))), seconds(2), 60, pair_.now);
  }
  e.socket->touch();
}

bool Simulation::act(Conversation& c, int which) {
  End& e = c.end[which];
  if (e.socket == nullptr || e.sleeps_until > pair_.now) return false;
  if (!e.socket->is_established() && !e.socket->connection().events().closed) return false;
  if (chance(rng_, 1)) {
    e.sleeps_until = pair_.now + one_of(rng_, {milliseconds(1), milliseconds(50), seconds(1), seconds(20)});
    return true;
  }
  if (chance(rng_, 2)) tweak(e);
  bool moved = false;
  if (chance(rng_, 80)) moved = read(e, which);
  if (failure_.empty() && e.error == 0 && chance(rng_, 80)) moved = write(e, which) || moved;
  moved = end(e) || moved;
  return moved;
}

// --- what must hold --------------------------------------------------------------------------------------------------

void Simulation::check_pair(const End& from, const End& to) {
  const tcp::Connection &a = from.socket->connection(), &b = to.socket->connection();
  const uint64_t una = a.snd_una() - a.first_send_byte(), nxt = a.snd_nxt() - a.first_send_byte();
  const uint64_t arrived = b.rcv_nxt() - b.first_receive_byte();
  if (una > arrived) fail("acknowledged " + std::to_string(una) + ", arrived " + std::to_string(arrived));
  if (arrived > nxt) fail("arrived " + std::to_string(arrived) + ", sent " + std::to_string(nxt));
  const uint64_t edge = to.edge - b.first_receive_byte();
  if (nxt > edge) fail("sent " + std::to_string(nxt) + " beyond the right edge " + std::to_string(edge));
}

void Simulation::check(Conversation& c) {
  bool both = true;
  for (End& e : c.end) {
    if (e.socket == nullptr || !e.socket->is_established()) {
      both = false;
      continue;
    }
    const tcp::Connection& t = e.socket->connection();
    if (t.snd_una() > t.snd_nxt() || t.snd_nxt() > t.snd_end() + 1) fail("una, nxt and end are out of order");
    if (t.receive_end() > t.rcv_nxt()) fail("receive_end is beyond rcv.nxt");
    tto_connection_record r{};
    t.fill_record(r);
    if (r.rcv_wnd_edge < e.edge) fail("the right edge moved left");
    e.edge = r.rcv_wnd_edge;
  }
  if (!both) return;
  check_pair(c.end[0], c.end[1]);
  check_pair(c.end[1], c.end[0]);
}

/// One end went rudely, its RST was lost, and the other has nothing to send: only a keep-alive would ever find out.
bool Simulation::give_up_on_the_dead() {
  bool any = false;
  for (Conversation& c : conversations_) {
    for (int i = 0; i < 2; ++i) {
      if (c.is_polite() || !c.end[1 - i].is_over || c.end[i].socket == nullptr) continue;
      let_go(c.end[i], false);
      any = true;
    }
  }
  return any;
}

bool Simulation::is_done() const {
  for (const Conversation& c : conversations_) {
    if (!c.end[0].is_over) return false;
    // A server that nobody ever reached, because the client gave up first, has nothing to do.
    if (!c.end[1].is_over && c.end[1].socket != nullptr) return false;
    if (!c.end[1].is_over && c.is_polite()) return false;
  }
  return true;
}

std::string Simulation::describe() {
  std::string text = "seed " + std::to_string(seed_) + ", mtu " + std::to_string(pair_.config_.mtu) + ", delay " +
                     std::to_string(pair_.config_.delay.micros()) + " us, loss " +
                     std::to_string(pair_.config_.faults.loss) + "\n" + pair_.describe();
  for (Conversation& c : conversations_) {
    for (End& e : c.end) {
      text += std::string(&e == &c.end[0] ? "client " : "server ") + name(e.ending) + " wrote " +
              std::to_string(e.written) + "/" + std::to_string(e.total) + " read " + std::to_string(e.read) +
              (e.is_over ? " over" : "") + " errno " + std::to_string(e.error) + "\n";
      if (e.socket != nullptr) text += "  " + pair_.describe(*e.socket);
    }
  }
  return text;
}

std::string Simulation::run() {
  const Instant limit = pair_.now + kMostTime;
  for (Conversation& c : conversations_) open(c);
  int idle = 0;
  for (uint64_t steps = 0; failure_.empty() && !is_done(); ++steps) {
    accept_all();
    bool acted = false;
    Instant wake = kNever;
    for (Conversation& c : conversations_) {
      acted = act(c, 0) || acted;
      acted = act(c, 1) || acted;
      for (const End& e : c.end)
        if (e.socket != nullptr && e.sleeps_until > pair_.now) wake = std::min(wake, e.sleeps_until);
    }
    // No time passes while the applications have something to do.
    const bool moved = pair_.step(acted ? pair_.now : wake);
    for (Conversation& c : conversations_) check(c);
    if (!moved && !acted && wake != kNever) pair_.now = std::max(pair_.now, wake);
    constexpr int kIdleTurns = 200;  // an application acts only now and then
    idle = moved || acted || wake != kNever ? 0 : idle + 1;
    if (idle > kIdleTurns && !give_up_on_the_dead()) fail("stalled: nothing is pending");
    if (steps > kMostSteps) fail("too many steps");
    if (pair_.now > limit) fail("no end within four hours");
  }
  for (Conversation& c : conversations_) {
    if (!failure_.empty() || !c.is_polite()) continue;
    for (int i = 0; i < 2; ++i) {
      if (c.end[i].error != 0) fail("a polite conversation ended with an error");
      if (c.end[i].read != c.end[1 - i].total) fail("bytes are missing");
    }
  }
  // What is closed ends: FINs, timeouts of orphans, TIME-WAIT.
  if (failure_.empty()) {
    const auto is_empty = [&] {
      accept_all();
      for (Conversation& c : conversations_)
        if (c.end[1].socket != nullptr) let_go(c.end[1], false);  // a rude client's, met only now
      return pair_.client.stack->connection_count() + pair_.server.stack->connection_count() == 0;
    };
    if (!pair_.run_until(is_empty, kMostTime)) fail("connections are left over");
    pair_.expect_balance();
  }
  return failure_.empty() ? "" : failure_ + "\n" + describe();
}

}  // namespace tto::sim
