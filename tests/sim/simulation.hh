// Two whole stacks, a bad link and two random applications, all from one seed, on a virtual clock. After each step:
//
//   una <= nxt <= end + 1 on both ends · nothing acknowledged that did not arrive, nothing arrived that was not sent ·
//   no data beyond the right edge that the other end announced, which never moves left · every byte read is the one
//   written there · while anything is left to do, something is pending
//
// and at the end both stacks are empty and their frames add up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "libtto/base/rng.hh"
#include "tests/unit/stack/stack_pair.hh"

namespace tto::sim {

/// How an application lets go of its end.
enum class Ending : uint8_t {
  kGraceful,   // writes all, shutdown(WR), reads to the end of file, close
  kCloseOnly,  // writes all, reads to the end of file, close: half-open for long
  kRude,       // close() at any time, unread data or not
  kAbort,      // RST at any time
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed);
  /// Empty, or what was violated and where everything stood.
  std::string run();
  uint64_t bytes_moved() const { return bytes_moved_; }

 private:
  struct End {
    stack::Host* host = nullptr;
    socket::StreamSocket* socket = nullptr;  // null: not yet, or let go of
    Ending ending = Ending::kGraceful;
    uint64_t total = 0, written = 0, read = 0;
    bool is_over = false;  // the application is through with it
    bool saw_end = false;
    bool has_shut = false;
    int error = 0;
    Instant sleeps_until{};
    StreamOffset edge = 0;
  };
  struct Conversation {
    End end[2];  // 0: the client
    uint16_t port = 0;
    bool is_polite() const { return end[0].ending <= Ending::kCloseOnly && end[1].ending <= Ending::kCloseOnly; }
  };

  static stack::PairConfig link_of(Rng& rng, uint64_t seed);
  void draw_engine();
  void open(Conversation& c);
  void accept_all();
  bool act(Conversation& c, int which);
  bool write(End& e, int which);
  bool read(End& e, int which);
  bool end(End& e);
  void tweak(End& e);
  void let_go(End& e, bool abort);
  void check(Conversation& c);
  void check_pair(const End& from, const End& to);
  bool give_up_on_the_dead();
  bool is_done() const;
  void fail(const std::string& what);
  std::string describe();

  const uint64_t seed_;
  Rng rng_;
  stack::StackPair pair_;
  socket::ListenSocket* listener_ = nullptr;
  std::vector<Conversation> conversations_;
  uint64_t bytes_moved_ = 0;
  std::string failure_;
  uint8_t buffer_[32768];
};

}  // namespace tto::sim
