// Leaving one stack for another, and telling AddressSanitizer. x86-64, System V calling convention.
#pragma once

#include <cstddef>

namespace carillon_emulation {

// One stack that can be left and entered again.
struct Context {
  void* stack_pointer = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  const void* bottom = nullptr;
  std::size_t size = 0;
};

// Makes `context` start in entry() on the given stack at the first switch to it. entry must not return.
void prepare(Context& context, void* stack, std::size_t size, void (*entry)());

// Runs `to` until something switches back to `from`.
void switch_context(Context& from, Context& to);

// The same, and `from` is never entered again.
void leave_for_good(Context& from, Context& to);

// First statement of an entry; `scheduler` is the context that runs on the thread's own stack.
void entered(Context& scheduler, bool from_scheduler);

}  // namespace carillon_emulation
