#include "parallel/watch/machine_links.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

namespace carillon {
namespace {

constexpr int kMillisecondsToConnect = 3000;  // per address

using Secret = std::array<char, 16>;

enum class MessageType : int32_t { kReport, kGoodbye, kEnd };

struct Message {
  Secret secret;
  MessageType type;
  int32_t rank, all_wait, code;
  double unmoved;
  char text[472];
};
static_assert(sizeof(Message) == 512);

std::string machine_of_this_rank(int rank) {
  char host[128] = "", space[64] = "";
  gethostname(host, sizeof host - 1);
  if (readlink("/proc/self/ns/pid", space, sizeof space - 1) < 0) space[0] = '\0';
  // Test only: every rank counts as a separate machine.
  const bool apart = std::getenv("CARILLON_TEST_MACHINES") != nullptr;
  return std::string(host) + " " + space + (apart ? " " + std::to_string(rank) : "");
}

std::vector<std::string> gather_names(Communicator& world, const std::string& own) {
  constexpr int64_t kWidth = 224;
  std::vector<char> mine(kWidth), all(static_cast<size_t>(kWidth * world.size()));
  std::memcpy(mine.data(), own.data(), std::min<size_t>(own.size(), kWidth - 1));
  world.all_gather(Tensor(all.data(), DType::kUInt8, {world.size(), kWidth}),
                   Tensor(mine.data(), DType::kUInt8, {1, kWidth}));
  std::vector<std::string> names;
  for (int r = 0; r < world.size(); ++r) names.emplace_back(all.data() + r * kWidth);
  return names;
}

// All addresses of this machine, the loopback addresses last.
std::string addresses() {
  std::string usual, loopback;
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) return "127.0.0.1";
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char text[NI_MAXHOST];
    const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(entry->ifa_addr, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    if (std::strchr(text, '%') != nullptr) continue;  // link-local
    const bool local = std::strcmp(text, "127.0.0.1") == 0 || std::strcmp(text, "::1") == 0;
    (local ? loopback : usual) += std::string(text) + " ";
  }
  freeifaddrs(first);
  return usual + loopback;
}

void make_quiet(int socket) {
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
  fcntl(socket, F_SETFD, FD_CLOEXEC);
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int connect_to(const std::string& address, const std::string& port) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  if (getaddrinfo(address.c_str(), port.c_str(), &wanted, &found) != 0) return -1;
  int socket = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket >= 0) {
    make_quiet(socket);
    bool good = ::connect(socket, found->ai_addr, found->ai_addrlen) == 0;
    if (!good && errno == EINPROGRESS) {
      pollfd ready{socket, POLLOUT, 0};
      int error = 0;
      socklen_t size = sizeof error;
      good = poll(&ready, 1, kMillisecondsToConnect) == 1 &&
             getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
    }
    if (!good) {
      close(socket);
      socket = -1;
    }
  }
  freeaddrinfo(found);
  return socket;
}

// A connection, and the part of the next message that has arrived.
struct Connection {
  int socket = -1;
  int machine = -1;  // index into heard(); -1: the peer has not identified itself yet
  size_t filled = 0;
  Message arriving{};
};

}  // namespace

struct MachineLinks::State {
  int rank = 0;
  std::vector<Process> here;
  bool one_machine = true;
  Secret secret{};
  int listener = -1;
  std::vector<Connection> connections;
  std::vector<Machine> heard;
  int code = 0;

  void listen_for_all(std::string& port);
  void accept_all();
  bool send(const Connection& connection, Message message) const;
  void receive(Connection& connection);
  void read_message(Connection& connection);
};

void MachineLinks::State::listen_for_all(std::string& port) {
  for (const int family : {AF_INET6, AF_INET}) {
    listener = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) continue;
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    const int both = 0;
    if (family == AF_INET6) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(listener, 4096) == 0 &&
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      char text[NI_MAXSERV];
      if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, text, sizeof text, NI_NUMERICSERV) ==
          0) {
        port = text;
        return;
      }
    }
    close(listener);
    listener = -1;
  }
}

MachineLinks::MachineLinks(Communicator& world) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.rank = world.rank();
  const std::vector<std::string> names = gather_names(world, machine_of_this_rank(s.rank));
  int64_t pid = getpid();
  std::vector<int64_t> pids(names.size());
  world.all_gather(Tensor::of(pids, {world.size()}), Tensor(&pid, DType::kInt64, {1}));
  std::map<std::string, int> first;
  for (int r = 0; r < world.size(); ++r) {
    first.emplace(names[static_cast<size_t>(r)], r);
    if (names[static_cast<size_t>(r)] == names[static_cast<size_t>(s.rank)])
      s.here.push_back({r, static_cast<int>(pids[static_cast<size_t>(r)])});
  }
  s.one_machine = first.size() == 1;
  if (s.one_machine) return;
  std::string port = "0", where;
  if (s.rank == 0) {
    s.listen_for_all(port);
    where = port + " " + addresses();
    if (getrandom(s.secret.data(), s.secret.size(), 0) != static_cast<ssize_t>(s.secret.size())) s.secret.fill('?');
  }
  where = broadcast_text(world, where);
  std::string secret = broadcast_text(world, std::string(s.secret.data(), s.secret.size()));
  std::copy_n(secret.begin(), std::min(secret.size(), s.secret.size()), s.secret.begin());
  const auto host = [&](int r) {
    const std::string& name = names[static_cast<size_t>(r)];
    return name.substr(0, name.find(' '));
  };
  if (s.rank == 0) {
    for (const auto& [name, rank] : first)
      if (rank != 0) s.heard.push_back({rank, host(rank), {}, 0, false, false});
  } else if (s.here.front().rank == s.rank) {
    s.heard.push_back({0, host(0), {}, 0, false, false});
    std::istringstream words(where);
    std::string address;
    words >> port;
    Connection connection;
    while (connection.socket < 0 && words >> address) connection.socket = connect_to(address, port);
    connection.machine = 0;
    // Without a connection no reports arrive, so silence means nothing.
    if (connection.socket < 0)
      s.heard.clear();
    else
      s.connections.push_back(connection);
  }
  const int64_t missing = world.sum(int64_t{s.rank != 0 && s.here.front().rank == s.rank && s.connections.empty()});
  if (missing > 0 && s.rank == 0) s.heard.clear();
}

MachineLinks::~MachineLinks() {
  for (Connection& connection : state_->connections) {
    Message message{};
    message.type = MessageType::kGoodbye;
    (void)state_->send(connection, message);
    close(connection.socket);
  }
  if (state_->listener >= 0) close(state_->listener);
}

const std::vector<MachineLinks::Process>& MachineLinks::here() const { return state_->here; }
bool MachineLinks::one_machine() const { return state_->one_machine; }
const std::vector<MachineLinks::Machine>& MachineLinks::heard() const { return state_->heard; }
int MachineLinks::told_to_end() const { return state_->code; }

// If the connection's buffer is full because the peer does not read, the message is dropped; the peer sees silence.
bool MachineLinks::State::send(const Connection& connection, Message message) const {
  message.secret = secret;
  message.rank = rank;
  return ::send(connection.socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof message);
}

void MachineLinks::State::accept_all() {
  if (listener < 0) return;
  for (;;) {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket < 0) return;
    make_quiet(socket);
    connections.push_back({socket, -1, 0, {}});
  }
}

void MachineLinks::State::read_message(Connection& connection) {
  const Message& message = connection.arriving;
  if (message.secret != secret) {
    close(connection.socket);
    connection.socket = -1;
    return;
  }
  if (connection.machine < 0) {
    const auto known = std::find_if(heard.begin(), heard.end(),
                                    [&](const Machine& machine) { return machine.first_rank == message.rank; });
    if (known == heard.end()) return;
    connection.machine = static_cast<int>(known - heard.begin());
  }
  Machine& machine = heard[static_cast<size_t>(connection.machine)];
  machine.silence = 0;
  if (message.type == MessageType::kGoodbye) machine.left = true;
  if (message.type == MessageType::kEnd) code = message.code;
  if (message.type == MessageType::kReport)
    machine.report = {message.unmoved, message.all_wait != 0,
                      std::string(message.text, strnlen(message.text, sizeof message.text))};
}

void MachineLinks::State::receive(Connection& connection) {
  while (connection.socket >= 0) {
    char* to = reinterpret_cast<char*>(&connection.arriving) + connection.filled;
    const ssize_t count = recv(connection.socket, to, sizeof(Message) - connection.filled, MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    }
    if (count <= 0) {
      if (connection.machine >= 0) heard[static_cast<size_t>(connection.machine)].broken = true;
      close(connection.socket);
      connection.socket = -1;
      return;
    }
    connection.filled += static_cast<size_t>(count);
    if (connection.filled < sizeof(Message)) continue;
    connection.filled = 0;
    read_message(connection);
  }
}

void MachineLinks::exchange(const Report& own, double seconds) {
  State& s = *state_;
  for (Machine& machine : s.heard) machine.silence += seconds;
  s.accept_all();
  Message message{};
  message.type = MessageType::kReport;
  message.unmoved = own.unmoved;
  message.all_wait = own.all_wait;
  std::memcpy(message.text, own.text.data(), std::min(own.text.size(), sizeof message.text - 1));
  for (Connection& connection : s.connections) {
    s.receive(connection);
    if (connection.socket >= 0) (void)s.send(connection, message);
  }
  std::erase_if(s.connections, [](const Connection& connection) { return connection.socket < 0; });
}

void MachineLinks::end_all(int code) {
  Message message{};
  message.type = MessageType::kEnd;
  message.code = code;
  for (const Connection& connection : state_->connections) (void)state_->send(connection, message);
}

}  // namespace carillon
