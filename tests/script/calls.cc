// The application's side of a script: settings, socket calls, and what can be seen of a socket.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "libtto/stack/connection_defaults.hh"
#include "tests/script/machine.hh"

namespace tto::script {
namespace {

constexpr struct {
  const char* name;
  int number;
} kErrors[] = {{"EAGAIN", EAGAIN},         {"EPIPE", EPIPE},       {"ECONNRESET", ECONNRESET},
               {"ECONNREFUSED", ECONNREFUSED}, {"ETIMEDOUT", ETIMEDOUT}, {"ENOTCONN", ENOTCONN},
               {"EHOSTUNREACH", EHOSTUNREACH}, {"ENETUNREACH", ENETUNREACH}, {"EPROTO", EPROTO},
               {"EINVAL", EINVAL},         {"ENOPROTOOPT", ENOPROTOOPT}, {"EOPNOTSUPP", EOPNOTSUPP},
               {"ECONNABORTED", ECONNABORTED}};

std::string result_text(int64_t result) {
  for (const auto& e : kErrors)
    if (result == -e.number) return e.name;
  return std::to_string(result);
}

int error_of(const std::string& text) {
  if (text == "none") return 0;
  for (const auto& e : kErrors)
    if (text == e.name) return e.number;
  throw Failure("unknown error '" + text + "'");
}

bool on_or_off(const std::string& text) {
  if (text == "on" || text == "off") return text == "on";
  throw Failure("on or off, not '" + text + "'");
}

/// "= WHAT" at the end of a statement, taken off; empty if there is none.
std::string take_result(std::vector<std::string>& w) {
  if (w.size() < 3 || w[w.size() - 2] != "=") return "";
  const std::string wanted = w.back();
  w.resize(w.size() - 2);
  return wanted;
}

void expect_result(const std::string& wanted, int64_t got) {
  if (!wanted.empty() && wanted != result_text(got)) throw Failure("expected " + wanted + ", got " + result_text(got));
}

}  // namespace

// --- before there is a stack -----------------------------------------------------------------------------------------

void Machine::set_sysctl(const std::string& name, const std::string& value) {
  control::TcpSysctls& s = sysctls_;
  if (name == "tcp_congestion_control") {
    std::strncpy(s.congestion_control, value.c_str(), sizeof s.congestion_control - 1);
    return;
  }
  const auto n = static_cast<uint32_t>(number_of(value));
  const auto small = static_cast<uint8_t>(n);
  const std::map<std::string, bool*> flags = {{"tcp_timestamps", &s.timestamps},
                                              {"tcp_sack", &s.sack},
                                              {"tcp_window_scaling", &s.window_scaling},
                                              {"tcp_slow_start_after_idle", &s.slow_start_after_idle},
                                              {"tcp_moderate_rcvbuf", &s.moderate_rcvbuf}};
  const std::map<std::string, uint8_t*> bytes = {
      {"tcp_ecn", &s.ecn},           {"tcp_syn_retries", &s.syn_retries}, {"tcp_synack_retries", &s.synack_retries},
      {"tcp_retries2", &s.retries2}, {"tcp_orphan_retries", &s.orphan_retries},
      {"tcp_keepalive_probes", &s.keepalive_probes}};
  const std::map<std::string, uint32_t*> words = {{"tcp_keepalive_time", &s.keepalive_time_s},
                                                  {"tcp_keepalive_intvl", &s.keepalive_interval_s},
                                                  {"tcp_fin_timeout", &s.fin_timeout_s},
                                                  {"tcp_rto_min_us", &s.min_rto_us},
                                                  {"tcp_rmem_default", &s.rmem.initial},
                                                  {"tcp_rmem_max", &s.rmem.most}};
  if (const auto f = flags.find(name); f != flags.end()) *f->second = n != 0;
  else if (const auto b = bytes.find(name); b != bytes.end()) *b->second = small;
  else if (const auto w = words.find(name); w != words.end()) *w->second = n;
  else throw Failure("unknown sysctl '" + name + "'");
}

bool Machine::do_setting(const Words& w) {
  if (w[0] == "sysctl") {
    if (w.size() != 3) throw Failure("sysctl NAME VALUE");
    set_sysctl(w[1], w[2]);
    return true;
  }
  if (w[0] == "set") {
    if (w.size() == 2 && w[1] == "v6") return true;  // seen already
    if (w.size() == 3 && w[1] == "mtu") {
      mtu_ = static_cast<uint32_t>(number_of(w[2]));
      return true;
    }
    throw Failure("set v6, or set mtu N");
  }
  if (w[0] != "option") return false;
  set_option(w);
  return true;
}

// --- options ---------------------------------------------------------------------------------------------------------

void Machine::set_option(const Words& w) {
  if (w.size() < 3) throw Failure("option NAME VALUE");
  const std::string& name = w[1];
  tcp::Connection* c = is_owned_ ? &socket_->connection() : nullptr;
  if (name == "nodelay") {
    options_.nodelay = on_or_off(w[2]);
    if (c != nullptr) c->set_nodelay(options_.nodelay);
  } else if (name == "cork") {
    options_.cork = on_or_off(w[2]);
    if (c != nullptr) c->set_cork(options_.cork);
  } else if (name == "user_timeout") {
    options_.user_timeout = duration_of(w[2]);
    if (c != nullptr) c->set_user_timeout(options_.user_timeout);
  } else if (name == "keepalive") {  // IDLE INTERVAL PROBES, or off
    options_.keepalive = w[2] != "off";
    if (options_.keepalive) {
      if (w.size() != 5) throw Failure("option keepalive IDLE INTERVAL PROBES");
      options_.keepalive_idle = duration_of(w[2]);
      options_.keepalive_interval = duration_of(w[3]);
      options_.keepalive_probes = static_cast<uint8_t>(number_of(w[4]));
    }
    if (c != nullptr) {
      c->set_keepalive(options_.keepalive, options_.keepalive_idle, options_.keepalive_interval,
                       options_.keepalive_probes, now_);
    }
  } else if (name == "linger") {
    if (c == nullptr) throw Failure("option linger: no socket yet");
    socket_->set_linger(true, duration_of(w[2]));
  } else if (name == "rcvbuf") {
    receive_buffer_ = static_cast<uint32_t>(number_of(w[2]));
    if (c != nullptr) socket_->set_receive_buffer(receive_buffer_);
  } else if (name == "sndbuf") {
    send_buffer_ = static_cast<uint32_t>(number_of(w[2]));
    if (c != nullptr) socket_->set_send_buffer(send_buffer_);
  } else if (name == "tos") {
    tos_ = static_cast<uint8_t>(number_of(w[2]));
    if (c != nullptr) socket_->set_tos(tos_);
  } else if (name == "ttl") {
    ttl_ = static_cast<uint8_t>(number_of(w[2]));
    if (c != nullptr) socket_->set_ttl(ttl_);
  } else if (name == "syncnt") {
    options_.syn_retries = static_cast<uint8_t>(number_of(w[2]));
  } else {
    throw Failure("unknown option '" + name + "'");
  }
  if (c != nullptr) socket_->touch();
}

// --- calls -----------------------------------------------------------------------------------------------------------

socket::StreamSocket& Machine::socket() {
  if (!is_owned_) throw Failure("there is no open socket");
  return *socket_;
}

stack::Environment::NextHop Machine::next_hop() {
  return *environment_->next_hop(peer_->addresses().peer, &peer_->addresses().stack, 0);
}

namespace {

template <typename Request>
void fill(Request& r, const control::TcpSysctls& sysctls, stack::Opening opening, const tcp::ConnectionConfig& set,
          uint32_t send_buffer, uint32_t receive_buffer) {
  stack::apply_sysctls(sysctls, opening, r.config);
  r.config.nodelay = set.nodelay;
  r.config.cork = set.cork;
  r.config.user_timeout = set.user_timeout;
  if (set.syn_retries != 0) r.config.syn_retries = set.syn_retries;
  r.config.keepalive = set.keepalive;
  if (set.keepalive) {
    r.config.keepalive_idle = set.keepalive_idle;
    r.config.keepalive_interval = set.keepalive_interval;
    r.config.keepalive_probes = set.keepalive_probes;
  }
  if (receive_buffer != 0) {
    r.config.receive_buffer_bytes = receive_buffer;
    r.config.receive_window_scale = sysctls.receive_window_scale(receive_buffer);
  }
  r.send_buffer_bytes = send_buffer;
  r.receive_buffer_bytes = r.config.receive_buffer_bytes;
  r.limits.receive_max_bytes = receive_buffer != 0 || !sysctls.moderate_rcvbuf ? r.receive_buffer_bytes : sysctls.rmem.most;
}

}  // namespace

void Machine::open_listener(const Words& w) {
  stack::Stack::ListenRequest r;
  r.address = peer_->addresses().stack;
  r.is_v6 = is_v6_;
  r.port = peer_->addresses().stack_port;
  r.backlog = w.size() == 3 && w[1] == "backlog" ? static_cast<int>(number_of(w[2])) : 16;
  fill(r, sysctls_, stack::Opening::kPassive, options_, send_buffer_, receive_buffer_);
  r.tos = tos_;
  r.ttl = ttl_;
  stats::Counter reason = stats::Counter::kCount;
  listener_ = stack_->listen(r, &reason);
  if (listener_ == nullptr) throw Failure("listen failed");
}

void Machine::open_active() {
  stack::Stack::ConnectRequest r;
  const Peer::Addresses& at = peer_->addresses();
  r.tuple = {at.stack, at.peer, at.stack_port, at.peer_port};
  r.next_hop = next_hop();
  r.next_hop.headers.tos = tos_;
  r.next_hop.headers.ttl = ttl_;
  fill(r, sysctls_, stack::Opening::kActive, options_, send_buffer_, receive_buffer_);
  stats::Counter reason = stats::Counter::kCount;
  socket_ = stack_->connect(r, now_, &reason);
  if (socket_ == nullptr) throw Failure("connect failed");
  is_owned_ = true;
  written_ = read_ = 0;
}

void Machine::accept() {
  if (listener_ == nullptr) throw Failure("there is no listener");
  socket::StreamSocket* s = listener_->accept();
  if (s == nullptr) throw Failure("nothing to accept");
  socket_ = s;
  is_owned_ = true;
  written_ = read_ = 0;
}

void Machine::write(const Words& words) {
  Words w = words;
  const std::string wanted = take_result(w);
  if (w.size() < 2) throw Failure("write BYTES [more] [= RESULT]");
  const int64_t bytes = number_of(w[1]);
  const int flags = w.size() == 3 && w[2] == "more" ? MSG_MORE : 0;
  if (w.size() > 3 || (w.size() == 3 && flags == 0)) throw Failure("write: unknown word '" + w[2] + "'");
  std::vector<uint8_t> data(static_cast<size_t>(bytes));
  for (int64_t i = 0; i < bytes; ++i) data[static_cast<size_t>(i)] = byte_at(1 + written_ + i, true);
  const iovec iov{data.data(), data.size()};
  const ssize_t sent = socket().send(&iov, 1, flags, now_);
  if (sent > 0) written_ += sent;
  expect_result(wanted.empty() ? w[1] : wanted, sent);
}

void Machine::read(const Words& words) {
  Words w = words;
  const std::string wanted = take_result(w);
  if (wanted.empty() || w.size() > 2) throw Failure("read [BYTES] = RESULT");
  std::vector<uint8_t> data(w.size() == 2 ? static_cast<size_t>(number_of(w[1])) : size_t{1} << 20);
  const iovec iov{data.data(), data.size()};
  const ssize_t got = socket().receive(&iov, 1, 0, now_);
  for (ssize_t i = 0; i < got; ++i) {
    if (data[static_cast<size_t>(i)] != byte_at(1 + read_ + i, false)) {
      throw Failure("byte " + std::to_string(read_ + i + 1) + " is not the one that was sent");
    }
  }
  if (got > 0) read_ += got;
  expect_result(wanted == "EOF" ? "0" : wanted, got);
}

bool Machine::do_call(const Words& w) {
  const std::string& verb = w[0];
  if (verb == "listen") open_listener(w);
  else if (verb == "connect") open_active();
  else if (verb == "accept") accept();
  else if (verb == "write") write(w);
  else if (verb == "read") read(w);
  else if (verb == "option") set_option(w);
  else if (verb == "shutdown") {
    if (w.size() != 2) throw Failure("shutdown read|write|both");
    const int how = w[1] == "read" ? SHUT_RD : w[1] == "write" ? SHUT_WR : SHUT_RDWR;
    const int result = socket().shutdown(how, now_);
    if (result != 0) throw Failure("shutdown: " + result_text(result));
  } else if (verb == "close") {
    socket::StreamSocket& s = socket();
    is_owned_ = false;
    if (s.linger_on() && s.linger_time().ns == 0) {  // what tto_close() does with it
      s.abort(now_);
    } else {
      s.close(now_);
    }
  } else if (verb == "close-listener") {
    stack_->close_listener(listener_, now_);
    listener_ = nullptr;
  } else if (verb == "mtu") {  // the route's path MTU, as the kernel tells it
    environment_->path_mtu = static_cast<uint32_t>(number_of(w.at(1)));
    ++environment_->generation_;
    now_ = now_ + milliseconds(1);  // the stack looks that often
    turn();
  } else {
    return false;
  }
  return true;
}

// --- what can be seen ------------------------------------------------------------------------------------------------

void Machine::check_figure(const std::string& what, const std::string& value) {
  if (socket_ == nullptr) throw Failure("there is no connection");
  const tcp::Figures f = socket_->connection().figures();
  const std::map<std::string, int64_t> numbers = {{"cwnd", f.cwnd_bytes},
                                                  {"ssthresh", f.ssthresh_bytes},
                                                  {"mss", f.mss_bytes},
                                                  {"snd_wnd", f.snd_wnd_bytes},
                                                  {"rcv_wnd", f.rcv_wnd_bytes},
                                                  {"retransmitted", static_cast<int64_t>(f.retransmitted_segments)},
                                                  {"unread", static_cast<int64_t>(socket_->readable_bytes())},
                                                  {"unacked", static_cast<int64_t>(socket_->unacked_bytes())},
                                                  {"unsent", static_cast<int64_t>(socket_->unsent_bytes())}};
  const std::map<std::string, Duration> times = {{"srtt", f.srtt}, {"rttvar", f.rttvar}, {"rto", f.rto}};
  if (const auto n = numbers.find(what); n != numbers.end()) {
    const bool is_least = value[0] == '>', is_most = value[0] == '<';
    const int64_t wanted = number_of(is_least || is_most ? value.substr(1) : value);
    const bool holds = is_least ? n->second > wanted : is_most ? n->second < wanted : n->second == wanted;
    if (!holds) throw Failure(what + ": expected " + value + ", got " + std::to_string(n->second));
  } else if (const auto t = times.find(what); t != times.end()) {
    const int64_t off = t->second.ns - duration_of(value).ns;
    if (std::abs(off) > 1'000'000) {
      throw Failure(what + ": expected " + value + ", got " + std::to_string(t->second.micros()) + " us");
    }
  } else {
    throw Failure("unknown figure '" + what + "'");
  }
}

bool Machine::do_check(const Words& w) {
  if (w[0] == "state") {  // the engine's, or "gone": nothing is left of any connection
    const std::string got = stack_->connection_count() == 0 ? "gone"
                            : socket_ == nullptr            ? "none"
                                                            : tcp::name(socket_->connection().state());
    if (w.size() != 2 || w[1] != got) throw Failure("the state is " + got);
  } else if (w[0] == "error") {  // SO_ERROR
    const int got = socket().take_error();
    if (w.size() != 2 || error_of(w[1]) != got) throw Failure("SO_ERROR is " + result_text(-got));
  } else if (w[0] == "ready") {
    const std::map<std::string, uint32_t> names = {{"in", EPOLLIN},   {"out", EPOLLOUT}, {"rdhup", EPOLLRDHUP},
                                                   {"hup", EPOLLHUP}, {"err", EPOLLERR}, {"pri", EPOLLPRI}};
    uint32_t wanted = 0;
    for (size_t i = 1; i < w.size(); ++i) wanted |= names.at(w[i]);
    const uint32_t level = socket().poll_level();
    std::string got;
    uint32_t known = 0;
    for (const auto& [name, bit] : names) {
      if ((level & bit) != 0) got += " " + name;
      known |= level & bit;
    }
    if (known != wanted) throw Failure("ready is:" + got);
  } else if (w[0] == "acceptable") {
    const uint32_t got = listener_ == nullptr ? 0 : listener_->ready_count();
    if (w.size() != 2 || number_of(w[1]) != got) throw Failure("acceptable connections: " + std::to_string(got));
  } else if (w[0] == "figure") {
    if (w.size() != 3) throw Failure("figure NAME VALUE");
    check_figure(w[1], w[2]);
  } else if (w[0] == "counter") {
    if (w.size() != 3) throw Failure("counter NAME VALUE");
    for (uint32_t i = 0; i < stats::kCounterCount; ++i) {
      if (w[1] != stats::name(static_cast<stats::Counter>(i))) continue;
      const uint64_t got = counters_[i].load();
      if (got != static_cast<uint64_t>(number_of(w[2]))) throw Failure(w[1] + " is " + std::to_string(got));
      return true;
    }
    throw Failure("unknown counter '" + w[1] + "'");
  } else {
    return false;
  }
  return true;
}

}  // namespace tto::script
