#include "context_switch.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulation's context switch is written for x86-64"
#endif

// Saves the callee-saved registers on the old stack; the compiler has saved the others. swapcontext would take twenty
// times as long, because it makes a system call for the signal mask.
asm(R"(
.text
.globl carillon_emulation_switch
.hidden carillon_emulation_switch
.type carillon_emulation_switch, @function
carillon_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size carillon_emulation_switch, .-carillon_emulation_switch
)");
extern "C" void carillon_emulation_switch(void** save, void* load);

namespace carillon_emulation {

void prepare(Context& context, void* stack, std::size_t size, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  // A fibre that has ended did not unwind its first frame, whose poison would be reported as a use after scope.
  __asan_unpoison_memory_region(stack, size);
#endif
  context.bottom = stack;
  context.size = size;
  context.fake_stack = nullptr;
  // At entry the stack pointer must be 8 below a multiple of 16, as after a call.
  auto* top = reinterpret_cast<void**>(static_cast<char*>(stack) + size) - 2;
  *--top = nullptr;                         // entry has no return address
  *--top = reinterpret_cast<void*>(entry);  // the target of `ret`
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
  carillon_emulation_switch(&from.stack_pointer, to.stack_pointer);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void leave_for_good(Context& from, Context& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.bottom, to.size);
#endif
  carillon_emulation_switch(&from.stack_pointer, to.stack_pointer);
  __builtin_unreachable();
}

void entered([[maybe_unused]] Context& scheduler, [[maybe_unused]] bool from_scheduler) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  std::size_t size = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (from_scheduler) {
    scheduler.bottom = bottom;
    scheduler.size = size;
  }
#endif
}

}  // namespace carillon_emulation
