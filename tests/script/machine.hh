// What a script runs on: one whole stack (sockets, engine, device) on a memory port and a virtual clock, with the script
// as application and as peer. Each statement is one call here; a Failure says what is wrong.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "libtto/control/sysctls.hh"
#include "libtto/port/memory_port.hh"
#include "libtto/stack/stack.hh"
#include "tests/script/peer.hh"
#include "tests/script/script.hh"
#include "tests/support/fake_environment.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::script {

/// Where the initial sequence numbers lie: anywhere, or so that the first few kilobytes wrap (R32).
enum class Wrap : uint8_t { kNone, k31, k32 };
const char* name(Wrap wrap);

class Machine {
 public:
  Machine(const std::vector<Statement>& script, Wrap wrap);
  ~Machine();
  /// The whole script. Throws a Failure whose text has the line, what was wanted, and the last events.
  void run();

 private:
  using Words = std::vector<std::string>;
  struct Arrived {
    Instant at;
    Seen seen;
  };

  // machine.cc: time, frames, the order of statements
  void build_stack();
  void do_statement(const Statement& s, bool next_is_also);
  void advance(Duration d);
  void turn();
  void step_to(Instant end, bool until_frame);
  void inject(const std::vector<std::byte>& frame, const std::string& text);
  void expect_out(const Statement& s);
  void expect_none();
  void expect_end();
  void note(const std::string& event);
  std::string state_text() const;

  // calls.cc: what the application does, and what it sees
  bool do_setting(const Words& w);
  bool do_call(const Words& w);
  bool do_check(const Words& w);
  void set_sysctl(const std::string& name, const std::string& value);
  void set_option(const Words& w);
  void open_listener(const Words& w);
  void open_active();
  void accept();
  void write(const Words& w);
  void read(const Words& w);
  void check_figure(const std::string& what, const std::string& value);
  socket::StreamSocket& socket();
  stack::Environment::NextHop next_hop();

  const std::vector<Statement>& script_;
  const Wrap wrap_;
  bool is_v6_ = false;
  uint32_t mtu_ = 1500;
  control::TcpSysctls sysctls_;
  tcp::ConnectionConfig options_;  // what the application set before there was a connection
  uint32_t send_buffer_ = 0, receive_buffer_ = 0;
  uint8_t tos_ = 0, ttl_ = 64;

  testing::TestPool pool_, peer_pool_;
  std::unique_ptr<stack::FakeEnvironment> environment_;
  std::vector<std::atomic<uint64_t>> counters_;
  std::unique_ptr<port::MemoryLink> link_;
  std::unique_ptr<testing::PortUser> wire_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<stack::Stack> stack_;
  Instant now_{}, start_{};

  socket::ListenSocket* listener_ = nullptr;
  socket::StreamSocket* socket_ = nullptr;
  bool is_owned_ = false;  // false: the application closed it
  int64_t written_ = 0, read_ = 0;
  std::deque<Arrived> arrived_;  // from the stack, not expected yet
  std::deque<std::string> trace_;
};

}  // namespace tto::script
