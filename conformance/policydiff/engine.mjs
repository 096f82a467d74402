// Answers requests with an independent engine of the policy language: a JSON object on each line of standard input, and one
// on each line of standard output, in the same order.
//
// in:  {identity: bool, policy, principal, action, resource, context: {key: "value" or ["value", …]}}
// out: {verdict: "allow" | "allow-account" | "deny" | "none"}, or {error: "…"}
import { createInterface } from 'node:readline'
import { anonymousPrincipal, runSimulation, runUnsafeSimulation } from '@cloud-copilot/iam-simulate'

const account = '111122223333'

const identityVerdicts = { Allowed: 'allow', ExplicitlyDenied: 'deny', ImplicitlyDenied: 'none' }

const resourceVerdicts = {
  Allowed: 'allow',
  AllowedForAccount: 'allow-account',
  ExplicitlyDenied: 'deny',
  DeniedForAccount: 'deny',
  ImplicitlyDenied: 'none',
  NotApplicable: 'none',
}

function simulation(q) {
  return {
    request: {
      principal: q.principal || anonymousPrincipal,
      action: q.action,
      resource: { resource: q.resource, accountId: account },
      contextVariables: q.context,
    },
    identityPolicies: q.identity ? [{ name: 'policy', policy: q.policy }] : [],
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: q.identity ? undefined : q.policy,
  }
}

async function answer(q) {
  if (q.identity) {
    // Without its checks the engine takes any action and any condition key, so that all of the language can be asked.
    return { verdict: identityVerdicts[runUnsafeSimulation(simulation(q), {})] }
  }
  const r = await runSimulation(simulation(q), {})
  if (r.resultType !== 'single') {
    return { error: JSON.stringify(r.errors ?? r.resultType) }
  }
  if (r.result.ignoredContextKeys?.length) {
    return { error: `ignored ${r.result.ignoredContextKeys}` }
  }
  return { verdict: resourceVerdicts[r.result.analysis.resourceAnalysis.result] }
}

for await (const line of createInterface({ input: process.stdin })) {
  let out
  try {
    out = await answer(JSON.parse(line))
  } catch (e) {
    out = { error: String(e) }
  }
  process.stdout.write(JSON.stringify(out) + '\n')
}
