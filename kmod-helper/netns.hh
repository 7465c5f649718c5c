// Network namespaces: ttod serves many, and lives in none of them for longer than one call.
#pragma once

#include <cstdint>

#include "kmod-helper/fd.hh"

namespace ttod {

/// The namespace of a socket (SIOCGSKNS: needs CAP_NET_ADMIN over it). Empty on failure.
Fd netns_of_socket(int socket);
/// A number for a namespace that is never used again while the machine is up (SO_NETNS_COOKIE); 0 on failure.
uint64_t netns_cookie_of_socket(int socket);
/// Makes a namespace that only this descriptor (and what lives in it) keeps alive. Throws std::system_error.
Fd netns_make_hidden();

/// Moves the calling thread into a namespace and back. Throws std::system_error if it cannot enter; a failure to come
/// back ends the process (going on in the wrong namespace would be worse).
class NetnsScope {
 public:
  explicit NetnsScope(int netns_fd);
  ~NetnsScope();
  NetnsScope(const NetnsScope&) = delete;
  NetnsScope& operator=(const NetnsScope&) = delete;

 private:
  Fd home_;
};

}  // namespace ttod
