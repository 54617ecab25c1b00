/* SPDX-FileCopyrightText: 2026 microvm.host contributors */
/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The smallest guest of Firecracker that can be stopped gracefully: no Linux, ready at once.
 *
 * It prints TOY-GUEST-READY on the first serial port, looks at the keyboard controller until Ctrl-Alt-Del puts a byte
 * there, says TOY-GUEST-OFF and resets the processor, which ends Firecracker. 64 bit code, no stack, no interrupt.
 */
#define SERIAL 0x3f8
#define KEYBOARD 0x60
#define KEYBOARD_STATUS 0x64
#define RESET 0xfe

.code64
.globl _start
_start:
	lea	ready(%rip), %rsi
	lea	1f(%rip), %rdi
	jmp	print
1:	in	$KEYBOARD_STATUS, %al
	pause
	test	$1, %al
	jz	1b
	in	$KEYBOARD, %al
	lea	bye(%rip), %rsi
	lea	2f(%rip), %rdi
	jmp	print
2:	mov	$RESET, %al
	out	%al, $KEYBOARD_STATUS
	hlt
	jmp	2b

print:	mov	$SERIAL, %dx		/* what rsi points to, then on to rdi */
3:	lodsb
	test	%al, %al
	jz	4f
	out	%al, %dx
	jmp	3b
4:	jmp	*%rdi

ready:	.asciz	"TOY-GUEST-READY\n"
bye:	.asciz	"TOY-GUEST-OFF\n"
